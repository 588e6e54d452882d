"""
Wrong use of the public API that a type checker has to refuse.

Nothing here is run. Each wrong call has a ``type: ignore`` with the expected error, and ``mypy --strict`` reports a
``type: ignore`` that is not needed.
"""

from __future__ import annotations

from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator, BriaEraseForegroundOperator
from airflow_provider_segmind.operators.segmind import SegmindRunModelOperator
from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger


def the_hook_is_used_wrongly(hook: SegmindHook) -> None:
    hook.submit("bria-erase-foreground", "https://example.com/cup.jpg")  # type: ignore[arg-type]
    hook.get_status(7)  # type: ignore[arg-type]
    hook.run("bria-erase-foreground", {}, timeout="soon")  # type: ignore[arg-type]
    hook.watch("0123456789abcdef", deadline=0.0)  # type: ignore[arg-type]
    job = hook.submit("bria-erase-foreground", {})
    job.request_id = "another"  # type: ignore[misc]


def operators_are_made_wrongly() -> None:
    BriaEraseForegroundOperator(task_id="erase")  # type: ignore[call-arg]
    BriaEraseForegroundOperator(task_id="erase", image="a.jpg", image_delivery="post")  # type: ignore[arg-type]
    BriaEraseForegroundBatchOperator(task_id="erase", images=["a.jpg"])  # type: ignore[call-arg]
    SegmindRunModelOperator(task_id="run", model="bria-erase-foreground", payload=["a.jpg"])  # type: ignore[arg-type]


def a_trigger_is_made_wrongly() -> None:
    SegmindJobTrigger("0123456789abcdef", "bria-erase-foreground")  # type: ignore[call-arg]
