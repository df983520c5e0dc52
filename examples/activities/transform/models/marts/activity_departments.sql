select coalesce(department, '(none)') as department, count(*) as activities,
  count(*) filter (where is_address_given) as with_address, count(*) filter (where has_free_tasting) as free_tastings
from {{ ref('activities') }}
group by department
