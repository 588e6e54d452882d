"""``make demo``: process one photo with real Airflow on this machine."""
