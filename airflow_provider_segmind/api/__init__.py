"""The rules of Segmind's HTTP API, without I/O: no transport, no disk, and of Airflow only the exceptions' base."""
