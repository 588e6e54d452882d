"""Faults that decide how a job ends and how long its record and files are kept."""

from __future__ import annotations

from airflow_provider_segmind.emulator.fault_effects.registry import POLLS, SUBMITS, fault
from airflow_provider_segmind.emulator.http_messages import EmulatorRequest, EmulatorResponse, Proceed
from airflow_provider_segmind.emulator.models import MODERATED


@fault(*SUBMITS)
async def job_fails(
    request: EmulatorRequest, proceed: Proceed, *, text: str = "Inference failed: out of memory"
) -> EmulatorResponse:
    """Accept a job that fails with this text."""
    request.plan.error = text
    return await proceed()


@fault(*SUBMITS)
async def moderation_block(request: EmulatorRequest, proceed: Proceed, *, text: str = MODERATED) -> EmulatorResponse:
    """Accept a job that content moderation blocks."""
    request.plan.error = text
    return await proceed()


@fault(*SUBMITS)
async def fetch_fails(
    request: EmulatorRequest, proceed: Proceed, *, text: str = "Could not fetch the image: HTTP 403"
) -> EmulatorResponse:
    """Accept a job that cannot fetch its image."""
    request.plan.error = text
    return await proceed()


@fault(*SUBMITS)
async def job_takes(request: EmulatorRequest, proceed: Proceed, *, seconds: float) -> EmulatorResponse:
    """Accept a job that takes this many seconds."""
    request.plan.seconds = seconds
    return await proceed()


@fault(*SUBMITS)
async def history_late(request: EmulatorRequest, proceed: Proceed, *, seconds: float = 5.0) -> EmulatorResponse:
    """Accept a job that the request history lists this many seconds late."""
    request.plan.history_delay = seconds
    return await proceed()


@fault(*POLLS)
async def expire_record(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Expire the job's record: its id is a 404 from now on, and only the history has it."""
    if request.job is not None:
        request.job.record_gone = True
    return await proceed()


@fault("file")
async def expire_file(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Expire the job's files: they are a 404 from now on."""
    if request.job is not None:
        request.job.files_gone = True
    return await proceed()
