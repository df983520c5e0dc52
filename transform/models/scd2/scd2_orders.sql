{{ config(alias='orders') }}
{{ scd2('orders') }}
