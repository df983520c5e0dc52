{{ exploded('payment_methods') }}
