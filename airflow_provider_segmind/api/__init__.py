"""The rules of the Segmind API: flows, values, errors. No sockets; of Airflow, only the base of the exceptions."""
