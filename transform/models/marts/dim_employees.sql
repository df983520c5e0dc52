-- depends_on: {{ ref('staging_is_tested') }}
select
    employee.employee_id,
    employee.first_name || ' ' || employee.last_name as employee_name,
    employee.title,
    employee.hire_date,
    employee.city,
    employee.country,
    employee.manager_id,
    manager.first_name || ' ' || manager.last_name as manager_name
from {{ ref('stg_employees') }} as employee
left join {{ ref('stg_employees') }} as manager on manager.employee_id = employee.manager_id
