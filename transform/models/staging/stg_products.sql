select
    product_id::integer as product_id,
    product_name,
    supplier_id::integer as supplier_id,
    category_id::integer as category_id,
    quantity_per_unit,
    unit_price::numeric(10, 2) as unit_price,
    units_in_stock::integer as units_in_stock,
    units_on_order::integer as units_on_order,
    reorder_level::integer as reorder_level,
    discontinued
from {{ landed('products') }}
