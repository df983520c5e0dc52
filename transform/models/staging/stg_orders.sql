select order_id, customer_id, freight from {{ landed('orders') }}
