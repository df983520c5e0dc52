{#- A condition that each row keeps. -#}
{% test holds(model, condition, column_name=none) %}
select * from {{ model }} where not coalesce({{ condition }}, false)
{% endtest %}
