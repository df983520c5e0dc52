-- Every date that a fact uses. `day_of_week` is 1 for Monday to 7 for Sunday (ISO 8601).
with used as (
    {%- for column in ['created_date', 'last_updated_date', 'agreed_payment_date', 'agreed_delivery_date'] %}
    select {{ column }} as date_id from {{ ref('fact_sales_order') }}{{ ' union' if not loop.last }}
    {%- endfor %}
)
select
    date_id,
    extract(year from date_id)::integer as year,
    extract(month from date_id)::integer as month,
    extract(day from date_id)::integer as day,
    extract(isodow from date_id)::integer as day_of_week,
    to_char(date_id, 'FMDay') as day_name,
    to_char(date_id, 'FMMonth') as month_name,
    extract(quarter from date_id)::integer as quarter
from used
where date_id is not null
