"""Apache Airflow provider for Segmind, whose AI models run behind a paid, asynchronous HTTP API."""

from __future__ import annotations

__version__ = "0.1.0"
