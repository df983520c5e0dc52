-- depends_on: {{ ref('staging_is_tested') }}
-- The query of load/orders_with_details.sql: every order with its details, with the source's own columns and types.
{{ config(materialized='view') }}
select *
from {{ landed('orders') }}
join {{ landed('order_details') }} using (order_id)
