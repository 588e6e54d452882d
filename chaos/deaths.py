"""
Makes a task process die at a named point, by sending ``SIGKILL`` to itself.

The DAG file calls :func:`install` in each task process. It wraps the functions of the package that are listed in
:mod:`chaos.seams`, which otherwise work as before. Each death is first recorded in a file that can be created only
once, so the next try passes the point.

====================== ================================================================================================
``intent_to_post``      The checkpoint says *submitting*, and the POST has not been sent.
``post_to_checkpoint``  The POST has been accepted, and its request id is not written anywhere.
``checkpoint_to_wait``  The request id is written, and the task has not deferred (or has not begun to wait).
``while_waiting``       The worker itself is waiting for the job (``deferrable=False``).
``mid_download``        The first chunk of the result has been written to the temporary file.
``mid_upload``          Half of the result has been sent to S3.
``stored_to_delivered`` The result is stored, and the checkpoint does not say so yet.
``delivered_to_end``    The checkpoint says *delivered*. Airflow does not know of the success and will retry.
====================== ================================================================================================
"""

from __future__ import annotations

import http.client
import os
import threading
from functools import wraps
from pathlib import Path
from typing import Any

from chaos import batch_deaths
from chaos.dying_task import DyingTask, ImageDeaths
from chaos.plan import PLAN_VARIABLE, SHARING_DAGS, Point
from chaos.seams import (
    DEFER,
    DOWNLOAD,
    EXECUTE,
    EXECUTE_COMPLETE,
    MARK_DELIVERED,
    MARK_IN_LEDGER,
    STORE,
    WAIT_IN_WORKER,
    WRITE_CHECKPOINT,
    WRITE_LEDGER,
    Function,
    find_function,
    wrap,
)

SECONDS_BEFORE_DEATH = 0.7
"""How long a task that dies ``while_waiting`` has been waiting by then."""


def install() -> DyingTask | None:
    """Wrap the seams in this process, once, and return its task. Forked processes inherit the wrappers."""
    if PLAN_VARIABLE not in os.environ or hasattr(find_function(STORE.name), "__wrapped__"):
        return None
    task = DyingTask()
    wrap(EXECUTE.name, lambda execute: _remember_and_die_after(execute, task))
    wrap(EXECUTE_COMPLETE.name, lambda execute: _remember_and_die_after(execute, task))
    wrap(DEFER.name, lambda defer: _die_before(defer, "checkpoint_to_wait", task))
    for seam in (WRITE_CHECKPOINT, WRITE_LEDGER):
        wrap(seam.name, lambda write: _die_around_write(write, task))
    for seam in (MARK_DELIVERED, MARK_IN_LEDGER):
        wrap(seam.name, lambda mark: _die_before(mark, "stored_to_delivered", task))
    wrap(WAIT_IN_WORKER.name, lambda wait: _die_while_waiting(wait, task))
    wrap(DOWNLOAD.name, lambda download: _die_while_downloading(download, task))
    wrap(STORE.name, lambda store: _die_while_uploading(store, task))
    http.client.HTTPConnection.send = _die_after_half(  # type: ignore[method-assign]
        http.client.HTTPConnection.send, task
    )
    batch_deaths.install(task)
    return task


def _remember_and_die_after(execute: Function, task: DyingTask) -> Function:
    """Wrap a method that Airflow calls: note its image before, and die after a success. Some get no state store."""

    @wraps(execute)
    def wrapped(operator: Any, context: Any, *arguments: Any, **options: Any) -> Any:
        if operator.dag_id in SHARING_DAGS:
            context.pop("task_state_store", None)
        stem = Path(operator.image).stem
        task.begin(ImageDeaths(stem), stem, context["ti"].try_number)
        facts = execute(operator, context, *arguments, **options)
        task.die_at("delivered_to_end")
        return facts

    return wrapped


def _die_before(function: Function, point: Point, task: DyingTask) -> Function:
    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        task.die_at(point)
        return function(*arguments, **options)

    return wrapped


def _die_around_write(write: Function, task: DyingTask) -> Function:
    """Die before the write of a request id, or after the write of *submitting*."""

    @wraps(write)
    def wrapped(checkpoints: Any, checkpoint: Any) -> None:
        if checkpoint.request_id is not None:
            task.die_at("post_to_checkpoint")
        write(checkpoints, checkpoint)
        if checkpoint.request_id is None:
            task.die_at("intent_to_post")

    return wrapped


def _die_while_waiting(wait: Function, task: DyingTask) -> Function:
    @wraps(wait)
    def wrapped(*arguments: Any) -> Any:
        task.die_at("checkpoint_to_wait")
        if task.is_to_die_at("while_waiting"):
            timer = threading.Timer(SECONDS_BEFORE_DEATH, task.die_at, ["while_waiting"])
            timer.daemon = True
            timer.start()
        return wait(*arguments)

    return wrapped


def _die_while_downloading(download: Function, task: DyingTask) -> Function:
    @wraps(download)
    def wrapped(run: Any, result: Any, spool: Any) -> Any:
        return download(run, result, _DyingFile(spool, task) if task.is_to_die_at("mid_download") else spool)

    return wrapped


class _DyingFile:
    """A file that kills this process after its first write."""

    def __init__(self, file: Any, task: DyingTask) -> None:
        self._file = file
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, chunk: bytes) -> int:
        written: int = self._file.write(chunk)
        self._task.die_at("mid_download")
        return written


def _die_while_uploading(store: Function, task: DyingTask) -> Function:
    @wraps(store)
    def wrapped(file: Any, *arguments: Any, **options: Any) -> Any:
        if not task.is_to_die_at("mid_upload"):
            return store(file, *arguments, **options)
        _sending.left = file.seek(0, os.SEEK_END) // 2
        try:
            return store(file, *arguments, **options)
        finally:
            del _sending.left

    return wrapped


_sending = threading.local()
"""``left`` is how many bytes this thread may send before it dies; it is set while it stores a result."""


def _die_after_half(send: Function, task: DyingTask) -> Function:
    """Wrap the function with which all HTTP connections of this process send."""

    @wraps(send)
    def wrapped(connection: http.client.HTTPConnection, data: Any) -> None:
        if not hasattr(_sending, "left"):
            send(connection, data)
        elif hasattr(data, "read"):  # a whole file, which is sent in chunks so that it can be interrupted
            for chunk in iter(lambda: data.read(16 * 1024), b""):
                wrapped(connection, chunk)
        else:
            send(connection, data)
            _sending.left -= len(data)
            if _sending.left < 0:
                task.die_at("mid_upload")

    return wrapped
