"""
What each fault does.

A fault wraps the handling of a request: it decides before, calls ``proceed`` (the other faults, then the service) or
does not, and changes the answer after. Where ``proceed`` is not called nothing is accepted.
"""

from __future__ import annotations

from airflow_provider_segmind.emulator.effects import changes, connection, files, job_fate, refusals
from airflow_provider_segmind.emulator.effects.registry import EFFECTS, check_options

__all__ = ["EFFECTS", "changes", "check_options", "connection", "files", "job_fate", "refusals"]
