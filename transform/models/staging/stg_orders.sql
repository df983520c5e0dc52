select
    order_id::integer as order_id,
    customer_id::text as customer_id,
    employee_id::integer as employee_id,
    order_date,
    required_date,
    shipped_date,
    ship_via::integer as shipper_id,
    freight::numeric(10, 2) as freight,
    ship_name,
    ship_address,
    ship_city,
    ship_region,
    ship_postal_code,
    ship_country
from {{ landed('orders') }}
