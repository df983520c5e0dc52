{#-
  What a model selects from, without an alias of its own: `from {{ landed('orders') }}`.

  With TRANSFORM_DATE, which `landing-dbt` sets, the rows of that date, out of history: all models of a build show one
  date, whatever is loaded meanwhile. Without it, as when dbt is run by itself, the view of the newest date.
  `source_name`: of models/sources.yml; another than `landed` where the table is in a schema of its own.
-#}
{% macro landed(table, source_name='landed') -%}
  {%- set view = source(source_name, table) -%}
  {%- if not execute or not env_var('TRANSFORM_DATE', '') -%}
    {{ view }} as {{ quoted(table) }}
  {%- else -%}
    (select {{ _selected(view) }} from {{ history_of(view) }} where extracted_at = {{ _shown_date(view) }}) as {{
      quoted(table) }}
  {%- endif -%}
{%- endmacro %}

{#- The columns that a build shows: of the newest date's view; for an older date those of all dates. -#}
{% macro _selected(view) -%}
  {%- set shown = [] -%}
  {%- if not env_var('TRANSFORM_SUFFIX', '') -%}
    {%- set shown = adapter.get_columns_in_relation(view) | map(attribute='name') | list -%}
  {%- endif -%}
  {%- set columns = [] -%}
  {%- for column in history_columns(view) if column.name in shown or not shown -%}
    {%- do columns.append(column.stored ~ ' as ' ~ quoted(column.name)) -%}
  {%- endfor -%}
  {{- columns | join(', ') -}}
{%- endmacro %}

{#- The newest date, up to TRANSFORM_DATE, on which the table's source was loaded. -#}
{% macro _shown_date(view) -%}
  {%- set found = run_query("select coalesce(max(extracted_at), " ~ transform_date() ~ ")::text from ("
                            ~ dates_of(view) ~ ") as dates where extracted_at <= " ~ transform_date()) -%}
  {{- text_literal(found.rows[0][0]) ~ '::date' -}}
{%- endmacro %}
