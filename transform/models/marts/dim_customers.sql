-- depends_on: {{ ref('staging_is_tested') }}
select customer_id, company_name, contact_name, contact_title, city, region, postal_code, country
from {{ ref('stg_customers') }}
