"""Measure whole runs in real Airflow: (d) mapped tasks and (e) the batch, beside a client that blocks a worker."""
