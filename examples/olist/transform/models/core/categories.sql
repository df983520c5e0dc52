-- Every category that a product or the translation has. Without a translation it keeps its own name.
with named as (
    select trim(category_name) as name, min(nullif(trim(category_name_english), '')) as english
    from {{ landed('product_category_name_translation') }}
    group by 1
),

used as (
    select distinct trim(product_category_name) as name
    from {{ landed('olist_products') }}
)

select
    name as original_name,
    coalesce(english, name) as category
from used
full join named using (name)
where name <> ''
