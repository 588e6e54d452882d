"""
Typed use of the public API.

Nothing here is run: ``make lint`` checks this file with ``mypy --strict``, as a user's type checker would check theirs.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

import httpx

from airflow_provider_segmind.api.models import (
    JobOutcome,
    JobState,
    Metrics,
    OutcomeStatus,
    SegmindFile,
    SegmindJob,
    SegmindOutput,
    SegmindRecord,
    SegmindResult,
    SegmindStatus,
    SegmindSyncResult,
)
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindError,
    SegmindJobFailedError,
    SegmindRateLimitError,
    SegmindRequestError,
)
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator, BriaEraseForegroundOperator
from airflow_provider_segmind.operators.segmind import SegmindRunModelBatchOperator, SegmindRunModelOperator
from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger

MODEL = "bria-erase-foreground"


def the_hook_is_used_synchronously(hook: SegmindHook) -> None:
    assert_type(hook.get_conn(), httpx.Client)
    assert_type(hook.test_connection(), tuple[bool, str])
    assert_type(hook.get_credits(), float)

    job = hook.submit(MODEL, {"image": "https://example.com/cup.jpg", "preserve_alpha": False})
    assert_type(job, SegmindJob)
    assert_type(job.request_id, str)
    assert_type(job.submitted_at, float)

    assert_type(hook.get_status(job.request_id), SegmindStatus)
    assert_type(hook.get_result(job.request_id), SegmindResult)
    assert_type(hook.wait_for_job(job.request_id, timeout=timedelta(minutes=5)), SegmindResult)
    assert_type(hook.run(MODEL, {"image": "https://example.com/cup.jpg"}, timeout=120), SegmindResult)
    assert_type(hook.run_sync(MODEL, {"image": "https://example.com/cup.jpg"}), SegmindSyncResult)
    assert_type(hook.watch(job, deadline=job.submitted_at + 600, poll_interval=2.0), JobOutcome)
    hook.close()


def files_go_to_segmind_and_come_back(hook: SegmindHook, result: SegmindResult) -> None:
    assert_type(hook.upload(Path("cup.jpg")), str)
    assert_type(hook.upload(b"..."), str)
    file = hook.download(result, "cup.png")
    assert_type(file, SegmindFile)
    assert_type(file.size, int)
    assert_type(file.sha256, str)
    assert_type((file.width, file.height), tuple[int | None, int | None])


def the_request_history_is_asked(hook: SegmindHook) -> None:
    assert_type(hook.find_request(MODEL, {"image": "https://example.com/cup.jpg"}, since=0.0), str | None)
    assert_type(hook.get_record("0123456789abcdef"), SegmindRecord | None)


async def the_hook_is_used_asynchronously(hook: SegmindHook) -> None:
    job = await hook.asubmit(MODEL, {"image": "https://example.com/cup.jpg"})
    assert_type(job, SegmindJob)
    assert_type(await hook.aget_status(job.request_id), SegmindStatus)
    assert_type(await hook.aget_result(job.request_id), SegmindResult)
    assert_type(await hook.arun(MODEL, {"image": "https://example.com/cup.jpg"}), SegmindResult)
    assert_type(await hook.aget_credits(), float)
    assert_type(await hook.awatch(job, deadline=job.submitted_at + 600), JobOutcome)


def a_result_is_read(result: SegmindResult, status: SegmindStatus, outcome: JobOutcome) -> None:
    assert_type(result.outputs, tuple[SegmindOutput, ...])
    assert_type(result.output_url, str | None)
    assert_type(result.metrics, Metrics)
    assert_type(result.metrics.cost, float | None)
    assert_type(status.state, JobState)
    assert_type(outcome.status, OutcomeStatus)
    assert_type(outcome.output_urls, tuple[str, ...])
    assert_type(outcome.output_url, str | None)


def exceptions_form_a_tree(hook: SegmindHook) -> float | str | None:
    try:
        hook.get_credits()
    except SegmindRateLimitError as limited:
        return assert_type(limited.reset_at, float)
    except SegmindAuthError as refused:
        request_error: SegmindRequestError = refused
        return str(request_error)
    except SegmindJobFailedError as failed:
        return assert_type(failed.request_id, str | None)
    except SegmindError as error:
        return error.request_id
    return None


def operators_are_made() -> None:
    BriaEraseForegroundBatchOperator(
        task_id="erase_all",
        images="s3://photos/incoming/**/*.jpg",
        destination="s3://photos/erased/",
        name_template="{folder}/{stem}.{ext}",
        if_exists="skip",
        max_wave=500,
        max_transfers=8,
        max_failures=0.05,
        max_cost=50.0,
        watch="history",
        ledger="s3://photos/ledger/",
        timeout=timedelta(minutes=10),
        on_moderation_block="skip",
    )
    SegmindRunModelBatchOperator(
        task_id="run_all", model=MODEL, payloads=[{"image": "s3://photos/cup.jpg"}], destination="s3://photos/any/"
    )
    BriaEraseForegroundOperator(
        task_id="erase",
        image="s3://photos/cup.jpg",
        image_delivery="auto",
        destination="s3://photos/erased/",
        if_exists="skip",
        s3_extra_args={"ServerSideEncryption": "aws:kms"},
        preserve_alpha=False,
        visual_input_content_moderation="{{ params.moderate }}",
        segmind_conn_id="segmind_default",
        aws_conn_id=None,
        deferrable=False,
        timeout=timedelta(minutes=10),
        poll_interval=5,
        on_moderation_block="skip",
        on_unknown_submit="fail",
        retries=3,
    )
    SegmindRunModelOperator(
        task_id="run", model=MODEL, payload={"image_urls": ["s3://photos/cup.jpg"]}, destination=Path("out.png")
    )


async def a_trigger_is_used_by_an_operator_of_ones_own(job: SegmindJob) -> None:
    trigger = SegmindJobTrigger(job.request_id, job.model, "segmind_default", job.submitted_at, job.submitted_at + 600)
    assert_type(trigger.serialize(), tuple[str, dict[str, Any]])
    async for event in trigger.run():
        assert event.payload["status"] in list(OutcomeStatus)
