{#- Columns, their types and their headers are those of activities.yml. -#}
{%- set columns = {} -%}
{%- for name, column in model.columns.items() if column.data_type -%}
  {%- do columns.update({name: column}) -%}
{%- endfor -%}
{%- set relation = source('landed', 'activities') -%}
{%- if env_var('TRANSFORM_SUFFIX', '') -%}{%- set relation = history_of(relation) -%}{%- endif -%}
{%- set headers = {} -%}
{%- for name, column in columns.items() -%}{%- do headers.update({name: column.description}) -%}{%- endfor -%}
{%- set found = columns_by_header(relation, headers) if execute else {} -%}

with texts as (
  select
    {%- for name in found %}
    {{ cleaned(found[name]) }} as {{ name }},
    {%- endfor %}
    _source_file as source_file, _source_row as source_row, _row_hash as row_hash
  from {{ landed('activities') }}
),

typed as (
  select
    {%- for name in columns %}
    {{ as_type(name, columns[name].data_type) }} as {{ name }},
    {%- endfor %}
    nullif(jsonb_strip_nulls(jsonb_build_object(
      {%- for name in columns if columns[name].data_type != 'text' %}
      '{{ name }}', case when {{ as_type(name, columns[name].data_type) }} is null then {{ name }} end
      {%- if not loop.last %},{% endif %}
      {%- endfor %})), '{}') as unread_values,
    source_file, source_row, row_hash
  from texts
)

select
  encode(sha256(convert_to(jsonb_build_array(
    offer_name, address_1, post_code, town, round(latitude, 5), round(longitude, 5))::text, 'UTF8')), 'hex')
    as activity_key,
  {%- for name in columns %}
  {{ name }},
  {%- endfor %}
  coalesce(address_1, address_1_continued, address_part_2, address_part_3) is not null as is_address_given,
  unread_values,
  source_file, source_row, row_hash,
  run.extracted_at, run.run_id
from typed
cross join {{ newest_load(source('landed', 'activities')) }} as run
