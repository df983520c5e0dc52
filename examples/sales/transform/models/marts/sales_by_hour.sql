select sold_at::date as day, extract(hour from sold_at)::integer as hour, count(*) as sales, sum(quantity) as units,
  sum(total_amount) as revenue
from {{ ref('stg_sales') }}
group by day, hour
