"""Protection of columns: tokens, encryption and masks, done before a value is landed; and the keys."""
