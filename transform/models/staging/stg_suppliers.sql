select supplier_id::integer as supplier_id, company_name, city, country
from {{ landed('suppliers') }}
