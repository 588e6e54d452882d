"""Hundreds of photos through real Airflow while its processes are killed: ``make chaos``."""
