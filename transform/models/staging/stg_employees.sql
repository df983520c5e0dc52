select
    employee_id::integer as employee_id,
    first_name,
    last_name,
    title,
    hire_date,
    city,
    country,
    reports_to::integer as manager_id
from {{ landed('employees') }}
