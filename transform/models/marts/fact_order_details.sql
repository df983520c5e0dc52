-- depends_on: {{ ref('staging_is_tested') }}
-- One row an order detail, with the keys of its order. `amount`: price times quantity, less the discount.
select
    detail.order_detail_id,
    detail.order_id,
    detail.product_id,
    orders.customer_id,
    orders.employee_id,
    orders.order_date,
    detail.unit_price,
    detail.quantity,
    detail.discount,
    round(detail.unit_price * detail.quantity * (1 - detail.discount), 2) as amount
from {{ ref('stg_order_details') }} as detail
join {{ ref('stg_orders') }} as orders using (order_id)
