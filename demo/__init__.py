"""One photo through real Airflow, on one machine: ``make demo``."""
