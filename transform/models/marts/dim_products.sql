-- depends_on: {{ ref('staging_is_tested') }}
select
    product.product_id,
    product.product_name,
    category.category_name,
    supplier.company_name as supplier_name,
    supplier.country as supplier_country,
    product.quantity_per_unit,
    product.unit_price,
    product.discontinued = 1 as is_discontinued
from {{ ref('stg_products') }} as product
left join {{ ref('stg_categories') }} as category using (category_id)
left join {{ ref('stg_suppliers') }} as supplier using (supplier_id)
