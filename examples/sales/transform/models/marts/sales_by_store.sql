{#- Stores are encrypted; equal values look equal, so they can be grouped. `landing reveal` has them in plain. -#}
select store_id, count(*) as sales, count(distinct customer_id) as customers, sum(total_amount) as revenue
from {{ ref('stg_sales') }}
group by store_id
