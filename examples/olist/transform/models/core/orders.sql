select
    order_id,
    customer_id,
    order_status as status,
    order_purchase_timestamp as purchased_at,
    order_approved_at as approved_at,
    order_delivered_carrier_date as handed_to_carrier_at,
    order_delivered_customer_date as delivered_at,
    order_estimated_delivery_date as estimated_delivery_date,
    -- Whole minutes from purchase to customer: NULL while one of the two is unknown.
    floor(extract(epoch from order_delivered_customer_date - order_purchase_timestamp) / 60)::integer
        as delivery_minutes
from {{ landed('olist_orders') }}
