select
    staff.staff_id,
    staff.first_name,
    staff.last_name,
    department.department_name,
    department.location,
    staff.email_address
from {{ landed('staff') }}
left join {{ landed('department') }} using (department_id)
