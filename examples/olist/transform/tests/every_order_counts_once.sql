-- By state, and of those that have arrived by duration.
select *
from (select sum(orders) as by_state from {{ ref('orders_by_state') }}) as states
cross join (select coalesce(sum(orders), 0) as by_minutes from {{ ref('delivery') }}) as durations
cross join (
    select count(distinct order_id) as orders, count(distinct order_id) filter (
        where delivered_at is not null and purchased_at is not null
    ) as arrived
    from {{ ref('orders') }}
) as counted
where by_state <> orders or by_minutes <> arrived
