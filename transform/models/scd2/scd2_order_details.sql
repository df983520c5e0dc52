{{ config(alias='order_details') }}
{{ scd2('order_details') }}
