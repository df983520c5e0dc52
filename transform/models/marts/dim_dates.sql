-- depends_on: {{ ref('staging_is_tested') }}
-- Every day from the first to the last date of an order.
with bounds as (
    select
        min(least(order_date, required_date, shipped_date)) as first_day,
        max(greatest(order_date, required_date, shipped_date)) as last_day
    from {{ ref('stg_orders') }}
)

select
    day::date as date_day,
    extract(year from day)::integer as year,
    extract(quarter from day)::integer as quarter,
    extract(month from day)::integer as month,
    to_char(day, 'FMMonth') as month_name,
    extract(week from day)::integer as iso_week,
    extract(isodow from day)::integer as iso_weekday,
    to_char(day, 'FMDay') as weekday_name,
    extract(isodow from day) > 5 as is_weekend
from bounds
cross join generate_series(first_day::timestamp, last_day::timestamp, interval '1 day') as day
