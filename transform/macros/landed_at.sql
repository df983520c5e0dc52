{#- When a table's newest loaded date was read from its source: for `dbt source freshness`. -#}
{% macro landed_at(view) -%}
  select snapshot_at from {{ loads() }}
  where table_schema = {{ text_literal(view.schema) }} and table_name = {{ text_literal(view.identifier) }}
  order by extracted_at desc limit 1
{%- endmacro %}
