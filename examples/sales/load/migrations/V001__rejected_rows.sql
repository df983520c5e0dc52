-- Rows that broke the contract, by date. The example copies them from the quarantine of each landed date.
CREATE TABLE rejected_rows (
  extracted_at date NOT NULL,
  file text NOT NULL,
  line bigint NOT NULL,
  column_name text,
  rule text,
  reason text NOT NULL,
  PRIMARY KEY (extracted_at, file, line)
);
