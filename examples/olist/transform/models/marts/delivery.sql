-- How many orders took so many whole minutes from purchase to customer. An order that has not arrived is in none.
select
    count(distinct order_id) as orders,
    delivery_minutes as minutes
from {{ ref('orders') }}
where delivery_minutes is not null
group by delivery_minutes
