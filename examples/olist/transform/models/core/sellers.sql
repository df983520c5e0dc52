select distinct on (seller_id)
    seller_id,
    seller_zip_code_prefix as zip_code_prefix,
    seller_city as city,
    seller_state as state
from {{ landed('olist_sellers') }}
order by seller_id
