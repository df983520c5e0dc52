-- The source makes a new customer for each order; `person_id` stays the same.
select distinct on (customer_id)
    customer_id,
    customer_unique_id as person_id,
    customer_zip_code_prefix as zip_code_prefix,
    customer_city as city,
    customer_state as state
from {{ landed('olist_customers') }}
order by customer_id
