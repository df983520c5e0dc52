{#- Yes, no and nothing, by flag. -#}
{% if execute %}
{%- for column in adapter.get_columns_in_relation(ref('activities')) if column.data_type == 'boolean' %}
select '{{ column.name }}' as flag, count(*) filter (where {{ column.name }}) as yes,
  count(*) filter (where not {{ column.name }}) as no, count(*) filter (where {{ column.name }} is null) as nothing
from {{ ref('activities') }}
{%- if not loop.last %} union all{% endif %}
{%- endfor %}
{% else %}
select * from {{ ref('activities') }}
{% endif %}
