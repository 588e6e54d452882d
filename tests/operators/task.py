"""
A task instance as an operator sees it, across tries, deferrals and crashes, without Airflow's processes.

It stands in for Airflow (whose own behaviour is shown in ``tests/airflow_processes``), not for our code: triggers are
rebuilt from what they serialize, events go through JSON, and each worker part has a new operator.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred


class Crash(BaseException):
    """The process is gone."""


class Store:
    """Airflow's task state store: JSON values that survive a try; after a write that ``crash_after`` picks, a crash."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.written: list[Any] = []
        self.crash_after: Callable[[Any], bool] = lambda value: False

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.values[key] = json.dumps(value)
        self.written.append(value)
        if self.crash_after(value):
            raise Crash

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class TaskInstance:
    dag_id, task_id = "photos", "erase"

    def __init__(self, run_id: str = "run-1", map_index: int = -1) -> None:
        self.run_id, self.map_index = run_id, map_index
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))


class Task:
    """
    One task instance.

    :param make: makes the operator, once for each worker part
    :param durable: whether Airflow has a task state store (from 3.3)
    """

    def __init__(self, make: Callable[[], Any], *, durable: bool = True) -> None:
        self.make = make
        self.store = Store() if durable else None
        self.ti = TaskInstance()
        self.triggers: list[tuple[str, dict[str, Any]]] = []
        self.events: list[dict[str, Any]] = []
        self.before_store: Callable[[], None] = lambda: None

    @property
    def context(self) -> dict[str, Any]:
        return {"ti": self.ti, **({"task_state_store": self.store} if self.store is not None else {})}

    def submit(self) -> Any:
        """Run the submit part of a try; return the facts, or the deferral."""
        try:
            return self.make().execute(self.context)
        except TaskDeferred as deferral:
            return deferral

    def wait(self, deferral: TaskDeferred) -> dict[str, Any]:
        """Run the deferral's trigger, rebuilt from what Airflow keeps of it, and return its event."""
        path, kwargs = deferral.trigger.serialize()
        kwargs = json.loads(json.dumps(kwargs))
        self.triggers.append((path, kwargs))
        module, _, name = path.rpartition(".")

        async def first_event() -> Any:
            events = getattr(import_module(module), name)(**kwargs).run()
            event = await anext(events)
            await events.aclose()
            return event.payload

        event = json.loads(json.dumps(asyncio.run(first_event())))
        self.events.append(event)
        return event

    def resume(self, event: dict[str, Any], method: str = "execute_complete") -> Any:
        try:
            return getattr(self.make(), method)(self.context, event=event)
        except TaskDeferred as deferral:
            return deferral

    def run(self) -> dict[str, Any]:
        """Run one try to its end and return the facts."""
        outcome = self.submit()
        while isinstance(outcome, TaskDeferred):
            event = self.wait(outcome)
            self.before_store()
            outcome = self.resume(event, outcome.method_name)
        json.dumps(outcome)
        return outcome
