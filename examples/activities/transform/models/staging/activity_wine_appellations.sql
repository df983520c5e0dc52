{{ exploded('wine_appellations') }}
