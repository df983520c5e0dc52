-- Airflow's own database, beside the warehouse; made when the server is, once.
CREATE DATABASE airflow;
