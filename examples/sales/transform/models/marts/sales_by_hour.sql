select sold_at::date as day, count(*) as sales, sum(quantity) as units, sum(total_amount) as revenue
from {{ ref('stg_sales') }}
group by day
