"""The runs that are measured, each a DAG of its own on an account of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

PLAN_VARIABLE = "BENCHMARK_PLAN"
PROFILE_VARIABLE = "BENCHMARK_PROFILE"
TASK_ID = "erase"
JOB_SECONDS, JOB_SIGMA = 12.0, 0.15

Way = Literal["batch", "mapped", "blocking"]


@dataclass(frozen=True)
class Scenario:
    """
    One run.

    :param name: of its DAG, its connection, its account and its folders
    :param way: how the images are worked on
    :param images: how many
    :param limit: the account's requests in a minute, ``None`` for as many as come
    :param declared: whether the connection says ``requests_per_minute``
    :param options: more arguments of the batch operator
    """

    name: str
    way: Way
    images: int
    limit: int | None = None
    declared: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def account(self) -> str:
        """The API key of its account."""
        return f"SG_{self.name.replace('_', '-')}"

    @property
    def source(self) -> str:
        """The prefix of its photos in their bucket."""
        return f"night/{self.name}/"

    @property
    def destination(self) -> str:
        """The prefix of its results in their bucket."""
        return f"erased/{self.name}/"

    @property
    def sources(self) -> list[str]:
        """The addresses of its photos."""
        return [f"s3://photos/{self.source}{number // 1000:03}/{number:06}.png" for number in range(self.images)]

    def connection(self, segmind: str) -> str:
        """Return its Airflow connection as JSON."""
        extra = {"requests_per_minute": self.limit} if self.declared and self.limit is not None else {}
        return json.dumps({"conn_type": "segmind", "host": segmind, "password": self.account, "extra": extra})


def write_plan(scenarios: Iterable[Scenario], path: Path) -> None:
    """Write the scenarios for the DAG file."""
    path.write_text(json.dumps([asdict(scenario) for scenario in scenarios]), "utf-8")


def read_plan(path: Path) -> list[Scenario]:
    """Return what was written."""
    return [Scenario(**fields) for fields in json.loads(path.read_text("utf-8"))]


FAST = 6000
"""Requests in a minute of an account whose limit does not decide how long a run takes."""


@dataclass(frozen=True)
class Scenarios:
    """
    What is measured.

    :param alone: one after the other, for what they cost
    :param together: at the same time, each on an account of its own whose limit decides how long it takes
    :param start: a run whose start is measured, and which is stopped then
    """

    alone: tuple[Scenario, ...]
    together: tuple[Scenario, ...]
    start: Scenario

    @property
    def all(self) -> tuple[Scenario, ...]:
        """All of them."""
        return (*self.alone, *self.together, self.start)


def scenarios(sizes: Iterable[int], *, mapped: int, blocking: int, limited: int, scarce: int, start: int) -> Scenarios:
    """
    Return the scenarios of a size.

    :param sizes: images of the batches whose costs are compared
    :param mapped: images that are mapped tasks
    :param blocking: images that a task with the official client waits for
    :param limited: images of the batches at 600 requests a minute
    :param scarce: images of the batches at 50 requests a minute
    :param start: images of the run whose start is measured
    """
    history = {"watch": "history"}
    return Scenarios(
        alone=(
            Scenario(f"blocking_{blocking}", "blocking", blocking),
            Scenario(f"mapped_{mapped}", "mapped", mapped, FAST),
            *(Scenario(f"batch_{images}", "batch", images, FAST) for images in sizes),
        ),
        together=(
            Scenario("status_at_600", "batch", limited, 600),
            Scenario("history_at_600", "batch", limited, 600, options=history),
            Scenario("undeclared_600", "batch", limited, 600, declared=False),
            Scenario("status_at_50", "batch", scarce, 50),
            Scenario("history_at_50", "batch", scarce, 50, options=history),
        ),
        start=Scenario(f"start_of_{start}", "batch", start, FAST),
    )


FULL = scenarios((100, 1000, 5000), mapped=60, blocking=8, limited=1000, scarce=60, start=10_000)
QUICK = scenarios((10,), mapped=4, blocking=2, limited=10, scarce=5, start=100)
