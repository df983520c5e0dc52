select
    order_id || '-' || product_id as order_detail_id,
    order_id,
    product_id,
    unit_price::numeric(10, 2) as unit_price,
    quantity,
    discount::numeric(4, 3) as discount
from {{ landed('order_details') }}
