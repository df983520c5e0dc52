{{ exploded('languages') }}
