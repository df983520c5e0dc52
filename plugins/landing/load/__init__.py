"""One landed partition to the warehouse: staging, schema changes, atomic swap, load history."""
