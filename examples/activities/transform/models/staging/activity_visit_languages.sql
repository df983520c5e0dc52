{{ exploded('visit_languages') }}
