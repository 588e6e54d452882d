"""
Makes a task process die at a named point, by sending ``SIGKILL`` to itself.

The DAG file calls :func:`install` in each task process. It wraps the functions of the package that are listed in
:data:`SEAMS`, which otherwise work as before. Each death is first recorded in a file that can be created only once, so
the next try passes the point.

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
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from chaos.plan import PLAN_VARIABLE, Plan, Point

Function = Callable[..., Any]

PACKAGE = "airflow_provider_segmind"


@dataclass(frozen=True)
class Seam:
    """
    A function of the package that is wrapped.

    :param name: ``module:function`` or ``module:Class.method``, below the package
    :param points: the points that it stands for
    :param caller: the function that calls it, in the same notation, where its own source is elsewhere because it is
        imported or inherited
    """

    name: str
    points: tuple[Point, ...]
    caller: str | None = None

    @property
    def marked_function(self) -> str:
        """The function whose source must have a line ``Chaos seam: <points>``."""
        return self.caller or self.name


EXECUTE = Seam("operators.job:SegmindJobOperator.execute", ("delivered_to_end",))
EXECUTE_COMPLETE = Seam("operators.job:SegmindJobOperator.execute_complete", ("delivered_to_end",))
DEFER = Seam(
    "operators.base:SegmindOperator.defer",
    ("checkpoint_to_wait",),
    caller="operators.base:SegmindOperator._defer",
)
WRITE_CHECKPOINT = Seam("jobs.checkpoint:TaskCheckpoints.write", ("intent_to_post", "post_to_checkpoint"))
MARK_DELIVERED = Seam("jobs.checkpoint:TaskCheckpoints.mark_delivered", ("stored_to_delivered",))
WAIT_IN_WORKER = Seam("jobs.run:JobRun._wait_for_end", ("checkpoint_to_wait", "while_waiting"))
DOWNLOAD = Seam("jobs.delivery:Delivery._download", ("mid_download",))
STORE = Seam("jobs.delivery:store", ("mid_upload",), caller="jobs.delivery:Delivery._fetch_and_store")

SEAMS = (EXECUTE, EXECUTE_COMPLETE, DEFER, WRITE_CHECKPOINT, MARK_DELIVERED, WAIT_IN_WORKER, DOWNLOAD, STORE)
"""All functions of the package that are wrapped. The package marks each with a line ``Chaos seam: <points>``, in its
docstring or in a comment. ``tests/chaos/test_seams.py`` fails when a function or its mark is missing."""

SECONDS_BEFORE_DEATH = 0.7
"""How long a task that dies ``while_waiting`` has been waiting by then."""


def install() -> None:
    """Wrap the seams in this process, once. Forked processes inherit the wrappers."""
    if PLAN_VARIABLE not in os.environ or hasattr(find_function(STORE.name), "__wrapped__"):
        return
    task = _Task()
    _wrap(EXECUTE, task.remember_and_die_after)
    _wrap(EXECUTE_COMPLETE, task.remember_and_die_after)
    _wrap(DEFER, lambda defer: _die_before(defer, "checkpoint_to_wait", task))
    _wrap(WRITE_CHECKPOINT, lambda write: _die_around_write(write, task))
    _wrap(MARK_DELIVERED, lambda mark: _die_before(mark, "stored_to_delivered", task))
    _wrap(WAIT_IN_WORKER, lambda wait: _die_while_waiting(wait, task))
    _wrap(DOWNLOAD, lambda download: _die_while_downloading(download, task))
    _wrap(STORE, lambda store: _die_while_uploading(store, task))


def find_function(name: str) -> Function:
    """
    Return a function of the package.

    :param name: as in :class:`Seam`
    :raises ImportError: there is no such module
    :raises AttributeError: there is no such function
    """
    holder, attribute = _find_holder(name)
    function: Function = getattr(holder, attribute)
    return function


def _find_holder(name: str) -> tuple[Any, str]:
    module, _, path = name.partition(":")
    owner, _, attribute = path.rpartition(".")
    holder: Any = import_module(f"{PACKAGE}.{module}")
    return attrgetter(owner)(holder) if owner else holder, attribute


def _wrap(seam: Seam, wrapper: Callable[[Function], Function]) -> None:
    holder, attribute = _find_holder(seam.name)
    setattr(holder, attribute, wrapper(getattr(holder, attribute)))


@cache
def _read_plan(path: str) -> tuple[Path, dict[str, tuple[Point, ...]]]:
    """Return the folder of the recorded deaths, and the planned deaths by image."""
    plan = Plan.read(Path(path))
    return Path(path).with_name("deaths"), {image.stem: image.deaths for image in plan.images}


class _Task:
    """The task of this process: which image it is about, and whether the process is to die at a point."""

    def __init__(self) -> None:
        self.stem = ""
        self.try_number = 0

    def remember_and_die_after(self, execute: Function) -> Function:
        """Wrap a method that Airflow calls: note its image before, and die after a success."""

        @wraps(execute)
        def wrapped(operator: Any, context: Any, *arguments: Any, **options: Any) -> Any:
            self.stem = Path(operator.image).stem
            self.try_number = context["ti"].try_number
            facts = execute(operator, context, *arguments, **options)
            self.die_at("delivered_to_end")
            return facts

        return wrapped

    def is_to_die_at(self, point: Point) -> bool:
        """Whether a death at this point is planned and has not happened yet."""
        folder, deaths = _read_plan(os.environ[PLAN_VARIABLE])
        return point in deaths.get(self.stem, ()) and not (folder / f"{self.stem}.{point}.json").exists()

    def die_at(self, point: Point) -> None:
        """Kill this process, if a death at this point is planned and has not happened yet."""
        if not self.is_to_die_at(point):
            return
        folder, _ = _read_plan(os.environ[PLAN_VARIABLE])
        record = {"stem": self.stem, "point": point, "at": time.time(), "pid": os.getpid(), "try": self.try_number}
        try:
            with (folder / f"{self.stem}.{point}.json").open("x", encoding="utf-8") as file:
                json.dump(record, file)
        except FileExistsError:
            return  # another process of the same task died here a moment ago
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # a signal that another thread sends takes a moment to end this one


def _die_before(function: Function, point: Point, task: _Task) -> Function:
    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        task.die_at(point)
        return function(*arguments, **options)

    return wrapped


def _die_around_write(write: Function, task: _Task) -> Function:
    """Die before the write of a request id, or after the write of *submitting*."""

    @wraps(write)
    def wrapped(checkpoints: Any, checkpoint: Any) -> None:
        if checkpoint.request_id is not None:
            task.die_at("post_to_checkpoint")
        write(checkpoints, checkpoint)
        if checkpoint.request_id is None:
            task.die_at("intent_to_post")

    return wrapped


def _die_while_waiting(wait: Function, task: _Task) -> Function:
    @wraps(wait)
    def wrapped(*arguments: Any) -> Any:
        task.die_at("checkpoint_to_wait")
        if task.is_to_die_at("while_waiting"):
            timer = threading.Timer(SECONDS_BEFORE_DEATH, task.die_at, ["while_waiting"])
            timer.daemon = True
            timer.start()
        return wait(*arguments)

    return wrapped


def _die_while_downloading(download: Function, task: _Task) -> Function:
    @wraps(download)
    def wrapped(run: Any, result: Any, spool: Any) -> Any:
        return download(run, result, _DyingFile(spool, task) if task.is_to_die_at("mid_download") else spool)

    return wrapped


class _DyingFile:
    """A file that kills this process after its first write."""

    def __init__(self, file: Any, task: _Task) -> None:
        self._file = file
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, chunk: bytes) -> int:
        written: int = self._file.write(chunk)
        self._task.die_at("mid_download")
        return written


def _die_while_uploading(store: Function, task: _Task) -> Function:
    @wraps(store)
    def wrapped(file: Any, *arguments: Any, **options: Any) -> Any:
        if not task.is_to_die_at("mid_upload"):
            return store(file, *arguments, **options)
        with _DeathWhileSending(task, after_bytes=file.seek(0, os.SEEK_END) // 2):
            return store(file, *arguments, **options)

    return wrapped


class _DeathWhileSending:
    """Counts what this process sends over HTTP, and kills it after a number of bytes."""

    def __init__(self, task: _Task, after_bytes: int) -> None:
        self._task = task
        self._after_bytes = after_bytes
        self._sent = 0
        self._send = http.client.HTTPConnection.send

    def __enter__(self) -> None:
        send, count = self._send, self._count

        def counting_send(self: http.client.HTTPConnection, data: Any) -> None:
            if hasattr(data, "read"):  # a whole file, which is sent in chunks so that it can be interrupted
                for chunk in iter(lambda: data.read(16 * 1024), b""):
                    counting_send(self, chunk)
                return
            send(self, data)
            count(len(data))

        http.client.HTTPConnection.send = counting_send  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        http.client.HTTPConnection.send = self._send  # type: ignore[method-assign]

    def _count(self, size: int) -> None:
        self._sent += size
        if self._sent > self._after_bytes:
            self._task.die_at("mid_upload")
