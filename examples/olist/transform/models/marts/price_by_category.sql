-- Sum of the prices of sold items, without freight. One row has no category: that of products without one.
select
    category,
    sum(price) as price
from {{ ref('order_items') }}
left join {{ ref('products') }} using (product_id)
group by category
