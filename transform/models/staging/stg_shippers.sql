select shipper_id::integer as shipper_id, company_name
from {{ landed('shippers') }}
