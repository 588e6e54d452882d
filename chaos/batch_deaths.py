"""
Makes the task process of a batch die before or after one of its writes.

====================== ================================================================================================
``ledger_submitting``   An entry of the ledger that says that a POST follows.
``ledger_submitted``    An entry with the request id of the job that the POST has queued.
``ledger_delivered``    An entry that says that the result is stored.
``journal_shard``       Rows of images that are done with.
``batch_state``         The jobs in flight, at the end of a part.
``journal_compact``     All rows in one object, after which the shards are deleted.
``failed_list``         The list of what failed, which is written before the manifest.
``manifest``            The manifest.
``batch_inputs``        The images as the first part has listed them.
``batch_existing``      The results that were there before.
====================== ================================================================================================

A process that dies ``before_...`` has not sent the write to S3. One that dies ``after_...`` has seen it succeed, and
has done nothing since in the thread that wrote.
"""

from __future__ import annotations

import json
from functools import wraps
from typing import Any

from chaos.dying_task import BatchDeaths, DyingTask, read_plan
from chaos.seams import (
    BATCH_EXECUTE,
    BATCH_EXECUTE_COMPLETE,
    CREATE_DOCUMENT,
    REPLACE_DOCUMENT,
    WRITE_DOCUMENT,
    Function,
    wrap,
)

WRITES_BY_NAME = {
    "state.json": "batch_state",
    "journal.jsonl": "journal_compact",
    "failed.jsonl": "failed_list",
    "manifest.jsonl": "manifest",
    "inputs.jsonl": "batch_inputs",
    "existing.json": "batch_existing",
}


def install(task: DyingTask) -> None:
    """
    Wrap what batches call.

    :param task: the task of this process
    """
    for seam in (BATCH_EXECUTE, BATCH_EXECUTE_COMPLETE):
        wrap(seam.name, lambda execute: _remember_and_die_after(execute, task))
    for method in (CREATE_DOCUMENT, REPLACE_DOCUMENT, WRITE_DOCUMENT):
        wrap(method, lambda write: _die_around(write, task))


def name_write(name: str, data: bytes) -> str:
    """
    Return what a document is, in the words of the table above.

    :param name: its name below the ledger's or the run's folder
    :param data: its content
    """
    if name.startswith("journal/"):
        return "journal_shard"
    return WRITES_BY_NAME.get(name) or f"ledger_{json.loads(data)['state']}"


def _remember_and_die_after(execute: Function, task: DyingTask) -> Function:
    """Wrap a method that Airflow calls: note its batch before, and die after a success."""

    @wraps(execute)
    def wrapped(operator: Any, context: Any, *arguments: Any, **options: Any) -> Any:
        _, plan = read_plan()
        [batch] = [batch for batch in plan.batches if batch.dag_id == operator.dag_id]
        task.begin(BatchDeaths(batch), batch.dag_id, context["ti"].try_number)
        summary = execute(operator, context, *arguments, **options)
        task.die_at("delivered_to_end")
        return summary

    return wrapped


def _die_around(write: Function, task: DyingTask) -> Function:
    @wraps(write)
    def wrapped(documents: Any, name: str, data: bytes, *arguments: Any) -> Any:
        what = name_write(name, data)
        task.die_at(f"before_{what}")
        result = write(documents, name, data, *arguments)
        task.die_at(f"after_{what}")
        return result

    return wrapped
