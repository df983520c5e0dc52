{#- Date and run of the rows that landed() gives of a table, as a relation of one row. -#}
{% macro newest_load(view) -%}
  (select extracted_at, run_id from {{ loads() }}
   where table_schema = {{ text_literal(view.schema) }} and table_name = {{ text_literal(view.identifier) }}
   {%- if env_var('TRANSFORM_DATE', '') %} and extracted_at <= {{ text_literal(env_var('TRANSFORM_DATE')) }}::date
   {%- endif %} order by extracted_at desc limit 1)
{%- endmacro %}
