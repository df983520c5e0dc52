select payment_method, count(*) as sales, sum(total_amount) as revenue from {{ ref('stg_sales') }} group by payment_method
