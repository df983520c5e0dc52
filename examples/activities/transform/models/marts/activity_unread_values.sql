{#- Texts that are not values of their column's type, and so NULL in `activities`. -#}
select unread.key as column_name, unread.value, count(*) as activities
from {{ ref('activities') }}, jsonb_each_text(unread_values) as unread
group by unread.key, unread.value
