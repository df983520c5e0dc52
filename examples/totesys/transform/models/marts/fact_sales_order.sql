-- One row a sales order, in its newest version.
select
    row_number() over (order by created_at, sales_order_id)::integer as sales_record_id,
    sales_order_id,
    created_at::date as created_date,
    created_at::time as created_time,
    last_updated::date as last_updated_date,
    last_updated::time as last_updated_time,
    staff_id as sales_staff_id,
    counterparty_id,
    units_sold,
    unit_price,
    currency_id,
    design_id,
    {{ text_date('agreed_payment_date') }} as agreed_payment_date,
    {{ text_date('agreed_delivery_date') }} as agreed_delivery_date,
    agreed_delivery_location_id
from {{ landed('sales_order') }}
