select category_id::integer as category_id, category_name, description
from {{ landed('categories') }}
