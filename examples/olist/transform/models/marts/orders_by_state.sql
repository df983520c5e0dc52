-- The state is the customer's own. By way of the postal code an order would count once for each spelling of its city.
select
    state,
    count(distinct order_id) as orders
from {{ ref('orders') }}
left join {{ ref('customers') }} using (customer_id)
group by state
