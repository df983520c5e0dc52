{{ exploded('sectors') }}
