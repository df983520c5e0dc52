{{ config(alias='customers') }}
{{ scd2('customers') }}
