-- `category` is NULL for a product without one.
select distinct on (product_id)
    product_id,
    category,
    product_name_length as name_length,
    product_description_length as description_length,
    product_photos_qty as photos,
    product_weight_g as weight_g,
    product_length_cm as length_cm,
    product_height_cm as height_cm,
    product_width_cm as width_cm
from {{ landed('olist_products') }}
left join {{ ref('categories') }} on original_name = trim(product_category_name)
order by product_id
