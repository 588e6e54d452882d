"""
Lets a task process die at a named point, by a ``SIGKILL`` to itself.

The DAG file calls :func:`install` in each task process. It puts a look at the plan around a few functions of the
package, which stay what they are otherwise. Each death is written down first, in a file of its own that can be made
only once, so the next try gets past the point.

====================  ==================================================================================================
``intent_to_post``    the note says *submitting*, the POST was not sent
``post_to_note``      the POST was accepted, its id is nowhere
``note_to_wait``      the id is noted, the task has not deferred (or has not begun to wait)
``while_waiting``     the worker itself waits for the job (``deferrable=False``)
``mid_download``      the first piece of the result has been written to the spool
``mid_upload``        half of the result has gone over the wire to S3
``stored_to_settled`` the result is stored, the note does not know it
``settled_to_end``    the note is settled, and Airflow, which does not know of the success, will retry
====================  ==================================================================================================
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
from pathlib import Path
from typing import Any

from airflow_provider_segmind.files.destination import store
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.jobs import run
from airflow_provider_segmind.jobs.checkpoint import TaskCheckpoints
from airflow_provider_segmind.operators.job import SegmindJobOperator
from chaos.plan import PLAN_VARIABLE, Plan, Point

WAITED = 0.7
"""Seconds into a wait in the worker at which it dies."""


def install() -> None:
    """Make this process mortal, once."""
    if PLAN_VARIABLE not in os.environ or getattr(run, "mortal", False):
        return
    run.mortal = True  # type: ignore[attr-defined]
    scene = _Scene()
    run.begin = scene.enter(run.begin)
    run.resume = scene.enter(run.resume)
    run.store = _die_while_uploading(store, scene)  # type: ignore[attr-defined]
    TaskCheckpoints.write = _die_around_write(TaskCheckpoints.write, scene)  # type: ignore[method-assign]
    TaskCheckpoints.finish = _die_before_finish(TaskCheckpoints.finish, scene)  # type: ignore[method-assign]
    SegmindHook.download = _die_while_downloading(SegmindHook.download, scene)  # type: ignore[method-assign]
    SegmindHook.watch = _die_while_waiting(SegmindHook.watch, scene)  # type: ignore[method-assign]
    SegmindJobOperator.defer = _die_before_defer(SegmindJobOperator.defer, scene)  # type: ignore[method-assign]


@cache
def _plan(path: str) -> tuple[Path, dict[str, tuple[Point, ...]]]:
    plan = Plan.read(Path(path))
    return Path(path).with_name("deaths"), {image.stem: image.deaths for image in plan.images}


class _Scene:
    """The image that this process is about."""

    def __init__(self) -> None:
        self.stem = ""
        self.try_number = 0

    def enter(self, leg: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(leg)
        def entered(operator: Any, context: Any, *rest: Any) -> Any:
            self.stem = Path(operator.image).stem
            self.try_number = context["ti"].try_number
            facts = leg(operator, context, *rest)
            self.die_at("settled_to_end")
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
    def mortal(self: TaskCheckpoints, entry: Any) -> None:
        if entry.request_id is not None:
            scene.die_at("post_to_note")
        write(self, entry)
        if entry.request_id is None:
            scene.die_at("intent_to_post")

    return mortal


def _die_before_defer(defer: Callable[..., Any], scene: _Scene) -> Callable[..., Any]:
    @wraps(defer)
    def mortal(self: Any, *rest: Any, **options: Any) -> Any:
        scene.die_at("note_to_wait")
        return defer(self, *rest, **options)

    return mortal


def _die_while_waiting(watch: Callable[..., Any], scene: _Scene) -> Callable[..., Any]:
    @wraps(watch)
    def mortal(self: SegmindHook, *rest: Any, **options: Any) -> Any:
        scene.die_at("note_to_wait")
        if not scene.expects("while_waiting"):
            return watch(self, *rest, **options)
        timer = threading.Timer(WAITED, scene.die_at, ["while_waiting"])
        timer.daemon = True
        timer.start()
        return watch(self, *rest, **options)

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
    def mortal(self: SegmindHook, result: Any, target: Any, **options: Any) -> Any:
        doomed = scene.expects("mid_download")
        return download(self, result, _Spool(target, scene) if doomed else target, **options)

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


def _die_before_finish(finish: Callable[..., None], scene: _Scene) -> Callable[..., None]:
    @wraps(finish)
    def mortal(self: TaskCheckpoints) -> None:
        scene.die_at("stored_to_settled")
        finish(self)

    return mortal
