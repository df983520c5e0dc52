-- A code that ISO 4217 does not have keeps its row, without a name.
select
    currency.currency_id,
    currency.currency_code,
    currencies.currency_name
from {{ landed('currency') }}
left join {{ ref('currencies') }} as currencies on currencies.currency_code = upper(trim(currency.currency_code))
