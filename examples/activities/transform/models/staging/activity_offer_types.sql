{{ exploded('offer_types') }}
