"""What becomes of a job, its record and its files."""

from __future__ import annotations

from airflow_provider_segmind.emulator.calls import Answer, Call, Proceed
from airflow_provider_segmind.emulator.effects.registry import POLLS, SUBMITS, fault
from airflow_provider_segmind.emulator.models import MODERATED


@fault(*SUBMITS)
async def job_fails(call: Call, proceed: Proceed, *, text: str = "Inference failed: out of memory") -> Answer:
    """Accept a job that will end FAILED with this text."""
    call.plan.error = text
    return await proceed()


@fault(*SUBMITS)
async def moderation_block(call: Call, proceed: Proceed, *, text: str = MODERATED) -> Answer:
    """Accept a job that content moderation will block."""
    call.plan.error = text
    return await proceed()


@fault(*SUBMITS)
async def fetch_fails(call: Call, proceed: Proceed, *, text: str = "Could not fetch the image: HTTP 403") -> Answer:
    """Accept a job that will not be able to fetch its image."""
    call.plan.error = text
    return await proceed()


@fault(*SUBMITS)
async def job_takes(call: Call, proceed: Proceed, *, seconds: float) -> Answer:
    """Accept a job that takes this long."""
    call.plan.seconds = seconds
    return await proceed()


@fault(*SUBMITS)
async def history_late(call: Call, proceed: Proceed, *, seconds: float = 5.0) -> Answer:
    """Accept a job that the request history lists late."""
    call.plan.history_delay = seconds
    return await proceed()


@fault(*POLLS)
async def expire_record(call: Call, proceed: Proceed) -> Answer:
    """Forget the job's record: from here on its id is a 404, and only the history knows it."""
    if call.job is not None:
        call.job.record_gone = True
    return await proceed()


@fault("file")
async def expire_file(call: Call, proceed: Proceed) -> Answer:
    """Delete the job's files: from here on they are a 404."""
    if call.job is not None:
        call.job.files_gone = True
    return await proceed()
