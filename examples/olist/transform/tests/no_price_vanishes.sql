-- Neither that of a product without a category, nor of one without a translation.
select *
from (select sum(price) as by_category from {{ ref('price_by_category') }}) as categories
cross join (select sum(price) as price from {{ landed('olist_order_items') }}) as items
where by_category is distinct from price
