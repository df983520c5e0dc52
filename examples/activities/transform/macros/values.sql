{#- A column of any type as text without spaces around it (a no-break space is one); NULL for none. -#}
{% macro cleaned(columns) -%}
  coalesce({% for column in columns %}nullif(btrim({{ column }}::text, E' \t\r\n\u00a0'), '')
  {%- if not loop.last %}, {% endif %}{% endfor %})
{%- endmacro %}

{#- A text as a value of a type; NULL if it is not one. A flag is `oui` or `non`. -#}
{% macro as_type(text, type) -%}
  {%- if type == 'boolean' -%}
    case lower({{ text }}) when 'oui' then true when 'non' then false end
  {%- elif type == 'integer' -%}
    case when {{ text }} ~ '^\d{1,9}([.,]0+)?$' then replace({{ text }}, ',', '.')::numeric::integer end
  {%- elif type == 'numeric' -%}
    case when {{ text }} ~ '^[+-]?\d+([.,]\d+)?$' then replace({{ text }}, ',', '.')::numeric end
  {%- else -%}
    {{ text }}
  {%- endif -%}
{%- endmacro %}

{#-
  The values that a column of `activities` packs, one a row. They are separated by a comma without a space behind it, so
  "Céramique, faïence, émail" is one value. A value that an activity repeats counts once.
-#}
{% macro exploded(field) -%}
  select distinct activity_key, btrim(item, E' \t\r\n\u00a0') as value
  from {{ ref('activities') }}, regexp_split_to_table({{ field }}, ',(?!\s)') as item
  where btrim(item, E' \t\r\n\u00a0') <> ''
{%- endmacro %}
