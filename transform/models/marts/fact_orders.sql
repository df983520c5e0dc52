-- depends_on: {{ ref('staging_is_tested') }}
-- One row an order, with the sums of its details.
with sums as (
    select
        order_id,
        count(*) as details,
        sum(quantity) as units,
        sum(amount) as amount
    from {{ ref('fact_order_details') }}
    group by order_id
)

select
    orders.order_id,
    orders.customer_id,
    orders.employee_id,
    orders.order_date,
    orders.required_date,
    orders.shipped_date,
    shipper.company_name as shipper_name,
    case
        when orders.shipped_date is null then 'open'
        when orders.shipped_date > orders.required_date then 'late'
        else 'shipped'
    end as status,
    orders.ship_city,
    orders.ship_country,
    orders.freight,
    coalesce(sums.details, 0)::integer as details,
    coalesce(sums.units, 0)::integer as units,
    coalesce(sums.amount, 0) as amount
from {{ ref('stg_orders') }} as orders
left join sums using (order_id)
left join {{ ref('stg_shippers') }} as shipper using (shipper_id)
