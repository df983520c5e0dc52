{#- A date that the source has as text, `2022-11-09`; an empty one is NULL, and what is no date fails the build. -#}
{% macro text_date(column) -%}
  nullif(trim({{ column }}::text), '')::date
{%- endmacro %}
