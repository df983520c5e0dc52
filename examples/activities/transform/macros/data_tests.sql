{% test within(model, column_name, minimum, maximum) %}
select {{ column_name }} from {{ model }} where {{ column_name }} not between {{ minimum }} and {{ maximum }}
{% endtest %}

{% test nothing(model, column_name) %}
select {{ column_name }} from {{ model }} where {{ column_name }} is not null
{% endtest %}

{% test unique_together(model, columns) %}
select {{ columns | join(', ') }} from {{ model }} group by {{ columns | join(', ') }} having count(*) > 1
{% endtest %}
