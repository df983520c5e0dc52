-- Every order with its details: 18 columns, one row per order line, of the newest loaded date of each source.
SELECT *
FROM orders
JOIN order_details USING (order_id)
ORDER BY order_id, product_id;
