{#-
  A model's schema: `marts` for SCHEMA=public, `crm_marts` for SCHEMA=crm, so that two SCHEMAs never share one; for an
  older date with its suffix. A dbt project with the variable `schemas_as_named` has `marts` whatever SCHEMA is.
-#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {%- set loaded = env_var('SCHEMA', '') or 'public' -%}
  {%- set name = custom_schema_name | trim if custom_schema_name else 'marts' -%}
  {%- if name == loaded or name.endswith('_history') -%}
    {{ exceptions.raise_compiler_error(
      "Model " ~ node.name ~ " would be in schema " ~ name ~ ", which belongs to the loads. Give it another `schema`.") }}
  {%- elif loaded != 'public' and not var('schemas_as_named', false) and not name.startswith(loaded ~ '_') -%}
    {%- set name = loaded ~ '_' ~ name -%}
  {%- endif -%}
  {{- return(name ~ env_var('TRANSFORM_SUFFIX', '')) -}}
{%- endmacro %}
