{#- What the warehouse knows of a table of models/sources.yml. `view`: the relation that source() gives. -#}

{#- All dates of a table: `<schema>_history.<table>`. -#}
{% macro history_of(view) -%}
  {{- return(api.Relation.create(database=view.database, schema=view.schema ~ '_history', identifier=view.identifier)) -}}
{%- endmacro %}

{#- The load history of SCHEMA. -#}
{% macro loads() -%}
  {{- return(api.Relation.create(database=target.database, schema=(env_var('SCHEMA', '') or 'public') ~ '_history',
                                 identifier='_loads')) -}}
{%- endmacro %}

{#- Columns of all dates: `name` as in the source, `stored` as in history (quoted), `type` without its modifier. -#}
{% macro history_columns(view) -%}
  {%- set found = [] -%}
  {%- for column in adapter.get_columns_in_relation(history_of(view)) if column.name != 'extracted_at' -%}
    {#- The name of the partition key is reserved there: a source's `extracted_at` is stored as `extracted_at_`. -#}
    {%- set reserved = modules.re.fullmatch('extracted_at_+', column.name) -%}
    {%- do found.append({'name': column.name[:-1] if reserved else column.name, 'stored': quoted(column.name),
                         'type': column.dtype}) -%}
  {%- endfor -%}
  {%- if not found -%}
    {{ exceptions.raise_compiler_error(view ~ " was never loaded. If it is landed, load it: MELTANO_ENVIRONMENT=load "
       ~ "EXTRACTED_AT=" ~ (env_var('TRANSFORM_DATE', '') or 'DATE') ~ " meltano run load_to_postgres") }}
  {%- endif -%}
  {{- return(found) -}}
{%- endmacro %}

{#- Columns of the primary key of history, without the date; empty if it has none. -#}
{% macro primary_key_of(view) -%}
  {%- set found = run_query("
    select a.attname::text from pg_constraint c, unnest(c.conkey) with ordinality as part(number, position), pg_attribute a
    where c.conrelid = " ~ text_literal(history_of(view)) ~ "::regclass and c.contype = 'p'
      and a.attrelid = c.conrelid and a.attnum = part.number order by part.position") -%}
  {%- set names = [] -%}
  {%- for row in found.rows if row[0] != 'extracted_at' -%}
    {%- do names.append(row[0][:-1] if modules.re.fullmatch('extracted_at_+', row[0]) else row[0]) -%}
  {%- endfor -%}
  {{- return(names) -}}
{%- endmacro %}

{#- A query for the loaded dates of a table: those of its source, without dates on which it held no data there. -#}
{% macro dates_of(view) -%}
  select distinct loads.extracted_at
  from {{ loads() }} as loads
  join (
    select source, coalesce(source_schema, '') || '-' || coalesce(source_table, table_name) as stream
    from {{ loads() }}
    where table_schema = {{ text_literal(view.schema) }} and table_name = {{ text_literal(view.identifier) }}
    order by extracted_at desc
    limit 1
  ) as own using (source)
  where not coalesce(own.stream = any (loads.without_data), false)
  {%- if env_var('TRANSFORM_SUFFIX', '') %} and loads.extracted_at <= {{ transform_date() }}{% endif %}
{%- endmacro %}

{#- The date of this build. -#}
{% macro transform_date() -%}
  {{- return(text_literal(env_var('TRANSFORM_DATE')) ~ '::date') -}}
{%- endmacro %}

{#- An identifier; adapter.quote() does not double quotes inside. -#}
{% macro quoted(name) -%}
  {{- return('"' ~ (name | replace('"', '""')) ~ '"') -}}
{%- endmacro %}

{% macro text_literal(text) -%}
  {{- return("'" ~ (text | string | replace("'", "''")) ~ "'") -}}
{%- endmacro %}
