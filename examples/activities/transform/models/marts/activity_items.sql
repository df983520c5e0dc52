{#- Activities by field and value of what the file packs. -#}
{%- set fields = ['offer_types', 'labels', 'wine_appellations', 'sectors', 'languages', 'visit_languages',
                  'payment_methods'] -%}
{%- for field in fields %}
select '{{ field }}' as field, value, count(*) as activities from {{ ref('activity_' ~ field) }} group by value
{%- if not loop.last %} union all{% endif %}
{%- endfor %}
