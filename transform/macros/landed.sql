{#-
  What a model selects from, without an alias of its own: `from {{ landed('orders') }}`.

  With TRANSFORM_DATE, which `landing-dbt` sets, the rows of that date, out of history: all models of a build show one
  date, whatever is loaded meanwhile. Without it, as when dbt is run by itself, the view of the newest date.
  `source_name`: of models/sources.yml; another than `landed` where the table is in a schema of its own.
-#}
{% macro landed(table, source_name='landed') -%}
  {%- set view = source(source_name, table) -%}
  {%- if not execute or not env_var('TRANSFORM_DATE', '') -%}
    {{ view }} as {{ adapter.quote(table) }}
  {%- else -%}
    (select {{ _landed_columns(view) }} from {{ history_of(view) }} where extracted_at = {{ _landed_date(view) }}) as {{
      adapter.quote(table) }}
  {%- endif -%}
{%- endmacro %}

{#- A table's dates: `<schema>_history.<table>`. -#}
{% macro history_of(view) -%}
  {{- api.Relation.create(database=view.database, schema=view.schema ~ '_history', identifier=view.identifier) -}}
{%- endmacro %}

{#- The load history of SCHEMA. -#}
{% macro loads() -%}
  {{- api.Relation.create(database=target.database, schema=(env_var('SCHEMA', '') or 'public') ~ '_history',
                          identifier='_loads') -}}
{%- endmacro %}

{% macro text_literal(text) -%}
  '{{ text | replace("'", "''") }}'
{%- endmacro %}

{#- Columns of a table as its source names them: of the newest date, or of all dates for an older one. -#}
{% macro _landed_columns(view) -%}
  {%- set relation = view if not env_var('TRANSFORM_SUFFIX', '') else
      api.Relation.create(database=view.database, schema=view.schema ~ '_history', identifier=view.identifier) -%}
  {%- set in_history = relation != view -%}
  {%- set columns = [] -%}
  {%- for column in adapter.get_columns_in_relation(relation) if not (in_history and column.name == 'extracted_at') -%}
    {#- In history the name of the partition key is reserved: a source's `extracted_at` is `extracted_at_` there. -#}
    {%- set reserved = modules.re.fullmatch('extracted_at_*', column.name) -%}
    {%- set name = column.name[:-1] if reserved and in_history else column.name -%}
    {%- set stored = name ~ '_' if reserved else name -%}
    {%- do columns.append(adapter.quote(stored) ~ (' as ' ~ adapter.quote(name) if stored != name else '')) -%}
  {%- endfor -%}
  {{- columns | join(', ') -}}
{%- endmacro %}

{#- The newest date, up to TRANSFORM_DATE, on which the table's source was loaded. -#}
{% macro _landed_date(view) -%}
  {%- set found = run_query("
    with own as (
      select source, coalesce(source_schema, '') || '-' || coalesce(source_table, table_name) as stream
      from " ~ loads() ~ " where table_schema = " ~ text_literal(view.schema) ~ " and table_name = "
      ~ text_literal(view.identifier) ~ " order by extracted_at desc limit 1)
    select max(l.extracted_at)::text from own left join " ~ loads() ~ " l on l.source = own.source
      and l.extracted_at <= " ~ text_literal(env_var('TRANSFORM_DATE')) ~ "::date
      and not coalesce(own.stream = any (l.without_data), false)
    group by own.source") -%}
  {%- if not found.rows -%}
    {{ exceptions.raise_compiler_error(view ~ " was never loaded. If it is landed, load it: MELTANO_ENVIRONMENT=load "
       ~ "EXTRACTED_AT=" ~ env_var('TRANSFORM_DATE') ~ " meltano run load_to_postgres") }}
  {%- endif -%}
  {{- text_literal(found.rows[0][0] or env_var('TRANSFORM_DATE')) }}::date
{%- endmacro %}
