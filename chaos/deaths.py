"""
Lets a task process die at a named point, by sending ``SIGKILL`` to itself.

The DAG file calls :func:`install` in each task process. It wraps the functions in :data:`SEAMS`, which otherwise do
what they always do. Each death is recorded first, in a file that can be created only once, so that the next try gets
past the point.

====================== ================================================================================================
``intent_to_post``      the checkpoint says *submitting*, and the POST was not sent
``post_to_checkpoint``  the POST was accepted, and its request id is written nowhere
``checkpoint_to_wait``  the request id is written, and the task has not deferred (or has not begun to wait)
``while_waiting``       the worker itself waits for the job (``deferrable=False``)
``mid_download``        the first piece of the result has been written to the temporary file
``mid_upload``          half of the result has been sent to S3
``stored_to_delivered`` the result is stored, and the checkpoint does not say so
``delivered_to_end``    the checkpoint says *delivered*, and Airflow, which does not know of the success, will retry
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
from functools import cache, wraps
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from chaos.plan import PLAN_VARIABLE, Plan, Point

SEAMS = {
    "execute": "airflow_provider_segmind.operators.segmind:SegmindJobOperator.execute",
    "execute_complete": "airflow_provider_segmind.operators.segmind:SegmindJobOperator.execute_complete",
    "defer": "airflow_provider_segmind.operators.segmind:SegmindJobOperator.defer",
    "write checkpoint": "airflow_provider_segmind.jobs.checkpoint:TaskCheckpoints.write",
    "mark delivered": "airflow_provider_segmind.jobs.checkpoint:TaskCheckpoints.mark_delivered",
    "wait in the worker": "airflow_provider_segmind.jobs.run:JobRun._wait_for_end",
    "download": "airflow_provider_segmind.jobs.delivery:Delivery._download",
    "upload": "airflow_provider_segmind.jobs.delivery:store",
}
"""The functions of the package that are wrapped. Each has a comment "Chaos seam" where it is defined or called, and a
test holds both together: who renames one of them sees it fail."""

WAITED = 0.7
"""Seconds into a wait in the worker at which it dies."""


def install() -> None:
    """Wrap the seams in this process, once; a forked process inherits the wrappers."""
    if PLAN_VARIABLE not in os.environ or hasattr(seam("upload")[2], "__wrapped__"):
        return
    scene = _Scene()
    _wrap("execute", scene.enter)
    _wrap("execute_complete", scene.enter)
    _wrap("defer", lambda defer: _die_before_defer(defer, scene))
    _wrap("write checkpoint", lambda write: _die_around_write(write, scene))
    _wrap("mark delivered", lambda mark: _die_before_mark(mark, scene))
    _wrap("wait in the worker", lambda wait: _die_while_waiting(wait, scene))
    _wrap("download", lambda download: _die_while_downloading(download, scene))
    _wrap("upload", lambda upload: _die_while_uploading(upload, scene))


def seam(name: str) -> tuple[Any, str, Callable[..., Any]]:
    """Return the owner of a seam, the attribute's name and the function."""
    module, _, path = SEAMS[name].partition(":")
    owner, _, attribute = path.rpartition(".")
    holder = attrgetter(owner)(import_module(module)) if owner else import_module(module)
    return holder, attribute, getattr(holder, attribute)


def _wrap(name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    holder, attribute, function = seam(name)
    setattr(holder, attribute, wrapper(function))


@cache
def _plan(path: str) -> tuple[Path, dict[str, tuple[Point, ...]]]:
    plan = Plan.read(Path(path))
    return Path(path).with_name("deaths"), {image.stem: image.deaths for image in plan.images}


class _Scene:
    """The image that this process is about."""

    def __init__(self) -> None:
        self.stem = ""
        self.try_number = 0

    def enter(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(execute)
        def entered(operator: Any, context: Any, *rest: Any, **options: Any) -> Any:
            self.stem = Path(operator.image).stem
            self.try_number = context["ti"].try_number
            facts = execute(operator, context, *rest, **options)
            self.die_at("delivered_to_end")
            return facts

        return entered

    def expects(self, point: Point) -> bool:
        """Whether a death at this point is planned and has not happened."""
        folder, deaths = _plan(os.environ[PLAN_VARIABLE])
        return point in deaths.get(self.stem, ()) and not (folder / f"{self.stem}.{point}.json").exists()

    def die_at(self, point: Point) -> None:
        """Die, if it is the time."""
        if not self.expects(point):
            return
        folder, _ = _plan(os.environ[PLAN_VARIABLE])
        record = {"stem": self.stem, "point": point, "at": time.time(), "pid": os.getpid(), "try": self.try_number}
        try:
            with (folder / f"{self.stem}.{point}.json").open("x", encoding="utf-8") as file:
                json.dump(record, file)
        except FileExistsError:
            return  # another process of the same task was quicker
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # the signal needs a moment where another thread asks for it


def _die_around_write(write: Callable[..., None], scene: _Scene) -> Callable[..., None]:
    @wraps(write)
    def mortal(self: Any, checkpoint: Any) -> None:
        if checkpoint.request_id is not None:
            scene.die_at("post_to_checkpoint")
        write(self, checkpoint)
        if checkpoint.request_id is None:
            scene.die_at("intent_to_post")

    return mortal


def _die_before_defer(defer: Callable[..., Any], scene: _Scene) -> Callable[..., Any]:
    @wraps(defer)
    def mortal(self: Any, *rest: Any, **options: Any) -> Any:
        scene.die_at("checkpoint_to_wait")
        return defer(self, *rest, **options)

    return mortal


def _die_while_waiting(wait: Callable[..., Any], scene: _Scene) -> Callable[..., Any]:
    @wraps(wait)
    def mortal(*arguments: Any) -> Any:
        scene.die_at("checkpoint_to_wait")
        if not scene.expects("while_waiting"):
            return wait(*arguments)
        timer = threading.Timer(WAITED, scene.die_at, ["while_waiting"])
        timer.daemon = True
        timer.start()
        return wait(*arguments)

    return mortal


class _Spool:
    """A file whose writer dies once it has written."""

    def __init__(self, file: Any, scene: _Scene) -> None:
        self._file = file
        self._scene = scene

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, piece: bytes) -> int:
        written: int = self._file.write(piece)
        self._scene.die_at("mid_download")
        return written


def _die_while_downloading(download: Callable[..., Any], scene: _Scene) -> Callable[..., Any]:
    @wraps(download)
    def mortal(run: Any, result: Any, spool: Any) -> Any:
        return download(run, result, _Spool(spool, scene) if scene.expects("mid_download") else spool)

    return mortal


def _die_while_uploading(upload: Callable[..., None], scene: _Scene) -> Callable[..., None]:
    @wraps(upload)
    def mortal(file: Any, *rest: Any, **options: Any) -> None:
        if not scene.expects("mid_upload"):
            upload(file, *rest, **options)
            return
        with _DeathOnTheWire(scene, half=file.seek(0, os.SEEK_END) // 2):
            upload(file, *rest, **options)

    return mortal


class _DeathOnTheWire:
    """Counts what goes out over HTTP, and dies at the half of a file."""

    def __init__(self, scene: _Scene, half: int) -> None:
        self._scene = scene
        self._half = half
        self._sent = 0
        self._send = http.client.HTTPConnection.send

    def __enter__(self) -> None:
        send, death = self._send, self

        def counted(self: http.client.HTTPConnection, data: Any) -> None:
            if hasattr(data, "read"):  # a whole file at once: in pieces, so that there is a middle
                for piece in iter(lambda: data.read(16 * 1024), b""):
                    counted(self, piece)
                return
            send(self, data)
            death.count(len(data))

        http.client.HTTPConnection.send = counted  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        http.client.HTTPConnection.send = self._send  # type: ignore[method-assign]

    def count(self, size: int) -> None:
        self._sent += size
        if self._sent > self._half:
            self._scene.die_at("mid_upload")


def _die_before_mark(mark: Callable[..., None], scene: _Scene) -> Callable[..., None]:
    @wraps(mark)
    def mortal(*arguments: Any) -> None:
        scene.die_at("stored_to_delivered")
        mark(*arguments)

    return mortal
