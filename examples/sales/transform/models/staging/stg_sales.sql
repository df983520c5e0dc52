select *, "timestamp" as sold_at, round(quantity * unit_price * (1 - coalesce(discount, 0)), 2) as expected_amount
from {{ landed('sales') }}
