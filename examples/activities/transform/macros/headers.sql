{#-
  The columns of a landed CSV file by what their headers say, whatever their accents, spaces, case and punctuation are.

  relation: of the landed table. expected: headers by the names that models give them.
  Returns a list of quoted columns by name: one, or in a history whose headers were spelled differently several.
  Raises a compiler error that names all headers without a column.
-#}
{% macro columns_by_header(relation, expected) -%}
  {%- set pairs = [] -%}
  {%- for name, header in expected.items() -%}
    {%- do pairs.append('(' ~ text_literal(name) ~ ', ' ~ text_literal(header) ~ ')') -%}
  {%- endfor -%}
  {%- set found = run_query("
    with landed as (
      select attname::text as column_name,
        coalesce(substring(col_description(attrelid, attnum) from '^CSV header: (.*)$'), attname) as header
      from pg_attribute where attrelid = " ~ text_literal(relation) ~ "::regclass and attnum > 0 and not attisdropped
        and attname !~ '^(_|extracted_at)'),
    expected (name, header) as (values " ~ pairs | join(', ') ~ ")
    select e.name, e.header, l.column_name from expected e
    full join landed l on " ~ normalised('l.header') ~ " = " ~ normalised('e.header')) -%}
  {%- set columns, missing, additional = {}, [], [] -%}
  {%- for name, header, column in found.rows -%}
    {%- if name is none -%}
      {%- do additional.append(column) -%}
    {%- elif column is none -%}
      {%- do missing.append(header) -%}
    {%- else -%}
      {%- do columns.setdefault(name, []).append(adapter.quote(column)) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if missing -%}
    {{ exceptions.raise_compiler_error(relation ~ " has no column for these headers: " ~ missing | join('; ')
       ~ ". Columns that no header fits: " ~ (additional | join('; ') or 'none')
       ~ ". Correct the descriptions of the model's columns, which are the headers.") }}
  {%- endif -%}
  {%- for name, one in columns.items() if one | length > 1 and not env_var('TRANSFORM_SUFFIX', '') -%}
    {{ exceptions.raise_compiler_error(relation ~ " has several columns for " ~ name ~ ": " ~ one | join(', ')) }}
  {%- endfor -%}
  {%- if additional -%}
    {%- do exceptions.warn(relation ~ " has columns that no model uses: " ~ additional | join('; ')) -%}
  {%- endif -%}
  {{ return(columns) }}
{%- endmacro %}

{#- A header's letters and digits, in lower case, without accents, and without `oui / non` at its end. -#}
{% macro normalised(header) -%}
  regexp_replace(regexp_replace(lower(normalize(translate({{ header }}, '°º', ''), NFKD)), '[^a-z0-9]', '', 'g'),
                 'ouinon$', '')
{%- endmacro %}
