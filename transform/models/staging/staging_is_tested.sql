-- The gate of the marts: rows of each staging model, counted only if all tests of all of them hold. dbt skips a model
-- for a failed test only if it stands on everything that the test compares, and all marts stand on this one.
{% for model in ['stg_orders', 'stg_order_details', 'stg_customers', 'stg_products', 'stg_categories', 'stg_suppliers',
                 'stg_shippers', 'stg_employees'] -%}
{{ 'union all ' if not loop.first }}select '{{ model }}' as model, count(*) as rows from {{ ref(model) }}
{% endfor %}
