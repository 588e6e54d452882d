"""Send hundreds of images through real Airflow while its processes are killed: ``make chaos``."""
