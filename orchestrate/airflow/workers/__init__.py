"""Airflow with the Celery executor: workers that share the store and the databases, and nothing else."""
