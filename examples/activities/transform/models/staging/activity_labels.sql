{{ exploded('labels') }}
