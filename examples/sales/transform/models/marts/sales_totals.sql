{#- Customers, products and stores are counted by their encrypted values: equal values look equal. -#}
select count(*) as sales, sum(quantity) as units, sum(total_amount) as revenue,
  count(distinct customer_id) as customers, count(distinct product_id) as products, count(distinct store_id) as stores
from {{ ref('stg_sales') }}
