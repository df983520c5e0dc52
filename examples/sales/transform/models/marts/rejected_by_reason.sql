select extracted_at, column_name, rule, rows
from {{ source('quality', 'rejected_by_reason') }}
where extracted_at <= {{ text_literal(env_var('TRANSFORM_DATE', '') or '9999-12-31') }}::date
