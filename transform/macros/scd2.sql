{#-
  The versions of a table's rows: its columns, `valid_from` (the first date with these values) and `valid_to` (the first
  loaded date without them; NULL: the newest date has them). Computed from all loaded dates each time it is read, so it
  is right after a late backfill too. A row that is deleted ends its version; if it returns, a new one begins.

  key: columns that tell rows apart. Default: the primary key, if it was the same on all dates.
  Values are the same if their bytes are; of `numeric`, if the number is. A column that a date lacks is NULL.
  A build of an older date has the dates up to that one.
-#}
{% macro scd2(table, key=none, source_name='landed') -%}
  {%- set view = source(source_name, table) -%}
  {%- if execute -%}
    {{- _versions(view, history_columns(view), _scd2_key(view, key)) -}}
  {%- endif -%}
{%- endmacro %}

{% macro _versions(view, columns, key) -%}
  {%- set state = [] -%}
  {%- for column in columns if column.name not in key -%}
    {%- do state.append(('trim_scale(' ~ column.stored ~ ')') if column.type == 'numeric' else column.stored) -%}
  {%- endfor -%}
with dates as (
  select extracted_at, row_number() over date as scd2_number, lead(extracted_at) over date as scd2_next
  from ({{ dates_of(view) }}) as loaded
  window date as (order by extracted_at)
), states as (
  select history.*, scd2_number, scd2_next, row({{ state | join(', ') }}) as scd2_state
  from {{ history_of(view) }} as history
  join dates using (extracted_at)
), marked as (
  select
    *,
    lag(scd2_number) over row is distinct from scd2_number - 1
      or lag(scd2_state) over row *<> scd2_state as scd2_starts,
    lead(scd2_number) over row is distinct from scd2_number + 1
      or lead(scd2_state) over row *<> scd2_state as scd2_ends
  from states
  window row as (partition by {{ _stored(columns, key) }} order by extracted_at)
), bounds as (
  select
    *,
    case when scd2_ends then scd2_next else lead(scd2_next) over row end as valid_to
  from marked
  where scd2_starts or scd2_ends
  window row as (partition by {{ _stored(columns, key) }} order by extracted_at)
)
select
  {% for column in columns -%}
  {{ column.stored }} as {{ quoted(column.name) }},
  {% endfor -%}
  extracted_at as valid_from,
  valid_to
from bounds
where scd2_starts
{%- endmacro %}

{#- Checks what versions cannot be made of, and gives the key. -#}
{% macro _scd2_key(view, given) -%}
  {%- set where = "scd2('" ~ view.identifier ~ "'): " -%}
  {%- set names = history_columns(view) | map(attribute='name') | list -%}
  {%- for name in ['valid_from', 'valid_to'] if name in names -%}
    {{ exceptions.raise_compiler_error(where ~ "the table has a column " ~ name ~ " of its own. Rename it in a model.") }}
  {%- endfor -%}
  {%- for name in given or [] if name not in names -%}
    {{ exceptions.raise_compiler_error(where ~ "there is no column " ~ name ~ " for its key. Columns: "
       ~ names | join(", ")) }}
  {%- endfor -%}
  {%- set key = given or primary_key_of(view) -%}
  {%- if not key -%}
    {{ exceptions.raise_compiler_error(where ~ history_of(view) ~ " has no primary key: its table has none, or not the "
       ~ "same on all dates. Name the columns that tell its rows apart: scd2('" ~ view.identifier ~ "', key=[…])") }}
  {%- endif -%}
  {%- if given and _is_ambiguous(view, given) -%}
    {{ exceptions.raise_compiler_error(where ~ "rows of one date have the same " ~ key | join(", ") ~ ", or NULL there. "
       ~ "Name columns that tell them apart.") }}
  {%- endif -%}
  {{- return(key) -}}
{%- endmacro %}

{% macro _is_ambiguous(view, key) -%}
  {%- set columns = _stored(history_columns(view), key) -%}
  {%- set found = run_query("select from " ~ history_of(view) ~ " group by extracted_at, " ~ columns
                            ~ " having count(*) > 1 or num_nulls(" ~ columns ~ ") > 0 limit 1") -%}
  {{- return(found.rows | length > 0) -}}
{%- endmacro %}

{% macro _stored(columns, names) -%}
  {%- set found = [] -%}
  {%- for column in columns if column.name in names -%}{%- do found.append(column.stored) -%}{%- endfor -%}
  {{- return(found | join(', ')) -}}
{%- endmacro %}
