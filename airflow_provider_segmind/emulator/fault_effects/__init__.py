"""
What each fault does.

A fault wraps the handling of a request: it may prepare the request, call ``proceed`` (the other faults, then the
endpoint) and change the response. A fault that does not call ``proceed`` prevents that a job is accepted.
"""

from __future__ import annotations

from airflow_provider_segmind.emulator.fault_effects import (
    connection,
    error_responses,
    job_outcomes,
    response_fields,
    result_files,
)
from airflow_provider_segmind.emulator.fault_effects.registry import EFFECTS, check_options

__all__ = [
    "EFFECTS",
    "check_options",
    "connection",
    "error_responses",
    "job_outcomes",
    "response_fields",
    "result_files",
]
