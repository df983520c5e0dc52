{{ config(alias='products') }}
{{ scd2('products') }}
