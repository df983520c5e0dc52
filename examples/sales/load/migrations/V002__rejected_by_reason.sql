CREATE VIEW rejected_by_reason AS
SELECT extracted_at, column_name, rule, count(*) AS rows
FROM rejected_rows GROUP BY extracted_at, column_name, rule;
