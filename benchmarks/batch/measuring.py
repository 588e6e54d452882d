"""Run scenarios and measure what they took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.batch.database import Database, RunTimes
from benchmarks.batch.environment import Environment
from benchmarks.batch.processes import TaskProcess, cpu_of_tree, memory_of_tree
from benchmarks.batch.scenarios import JOB_SECONDS, Scenario
from demo.airflow_processes import DONE

MINUTE = 60.0
LIMITED_KINDS = ("submit", "status", "result")


@dataclass
class Outcome:
    """
    What one run took.

    :param requests: at Segmind, by kind
    :param request_times: when each request came that counts and was accepted, in epoch seconds, by kind
    :param refused: when a request was refused with a 429
    :param triggerer_cpu: seconds of the triggerer while the run went on, less what it takes at rest
    :param triggerer_bytes: the most memory that the triggerer's largest process had until then
    :param first_post: epoch seconds
    :param largest: the size of the largest row by kind, in bytes
    :param faults: what was not as it must be
    :param alone: whether no other run was going on, so that ``triggerer_cpu`` is this run's
    """

    scenario: Scenario
    times: RunTimes
    processes: list[TaskProcess]
    requests: dict[str, int]
    request_times: dict[str, list[float]]
    refused: list[float]
    triggerer_cpu: float
    triggerer_bytes: int
    first_post: float
    alone: bool
    largest: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    services_cpu: dict[str, float] = field(default_factory=dict)

    @property
    def requests_an_image(self) -> float:
        """The requests to Segmind an image, the history's included."""
        return sum(self.requests.values()) / self.scenario.images

    @property
    def worker_cpu(self) -> float:
        """The seconds of CPU of the task processes an image."""
        return sum(process.cpu for process in self.processes) / self.scenario.images

    @property
    def cpu(self) -> float:
        """The seconds of CPU of task processes and triggerer an image."""
        return self.worker_cpu + self.triggerer_cpu / self.scenario.images

    @property
    def slot_seconds(self) -> float:
        """The seconds for which a task process lived, an image."""
        return sum(process.life for process in self.processes) / self.scenario.images

    @property
    def peak_bytes(self) -> int:
        """The most memory that a task process had."""
        return max((process.peak_bytes for process in self.processes), default=0)

    @property
    def makespan_ratio(self) -> float:
        """The time of the run over the least that its requests allow: they at the account's limit, and one job."""
        assert self.scenario.limit is not None
        counted = sum(self.requests.get(kind, 0) for kind in LIMITED_KINDS)
        return self.times.seconds / (counted * MINUTE / self.scenario.limit + JOB_SECONDS)

    @property
    def refused_in_a_minute(self) -> int:
        """The most requests that were refused in any minute."""
        return max((sum(at <= other < at + MINUTE for other in self.refused) for at in self.refused), default=0)


@dataclass(frozen=True)
class Start:
    """
    How a run began.

    :param seconds: from the start of the task's process to the first POST
    :param first_bytes: the memory of that process when it was first seen
    :param peak_bytes: its most until the first POST
    """

    scenario: Scenario
    seconds: float
    first_bytes: int
    peak_bytes: int


class Bench:
    """
    Runs scenarios in one environment.

    :param environment: the running environment
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.database = Database(environment.postgres.address)

    def run(self, scenarios: Sequence[Scenario], timeout: float = 1500.0) -> list[Outcome]:
        """Run scenarios at the same time, to their end, and return their outcomes."""
        environment = self.environment
        names = ", ".join(scenario.name for scenario in scenarios)
        environment.report(f"{names}: {sum(scenario.images for scenario in scenarios)} images")
        triggerer, began = environment.pid("triggerer"), time.monotonic()
        before = {name: cpu_of_tree(environment.pid(name)) for name in environment.stack.processes if _lives(name)}
        largest: dict[str, int] = {}
        for scenario in scenarios:
            environment.airflow.api.trigger(scenario.name)
        while any(self.database.state(scenario) not in DONE for scenario in scenarios):
            if time.monotonic() > began + timeout:
                raise TimeoutError(f"{names} did not end within {timeout:g} s")
            environment.airflow.ensure_running()
            for kind, size in self.database.largest().items():
                largest[kind] = max(size, largest.get(kind, 0))
            time.sleep(0.5)
        while environment.tasks.alive():  # a run ends a moment before its last task process does
            time.sleep(0.1)
        took = {name: cpu_of_tree(environment.pid(name)) - cpu for name, cpu in before.items()}
        idle = environment.idle * (time.monotonic() - began)
        return [
            self._outcome(scenario, took, max(took["triggerer"] - idle, 0.0), memory_of_tree(triggerer), largest)
            if len(scenarios) == 1
            else self._outcome(scenario, {}, float("nan"), memory_of_tree(triggerer), largest)
            for scenario in scenarios
        ]

    def start(self, scenario: Scenario, timeout: float = 300.0) -> Start:
        """Run a scenario until its first POST, and stop it then."""
        environment = self.environment
        environment.report(f"{scenario.name}: until the first POST")
        deadline, process = time.monotonic() + timeout, None
        run_id = environment.airflow.api.trigger(scenario.name)
        while not (posted := environment.seen_by_segmind(scenario)["first_post"]):
            process = next(iter(environment.tasks.alive()), process)
            if time.monotonic() > deadline or self.database.state(scenario) in DONE:
                raise TimeoutError(f"{scenario.name} has sent no POST within {timeout:g} s")
            time.sleep(0.1)
        assert process is not None
        found = Start(scenario, posted - process.began, process.first_bytes, process.peak_bytes)
        environment.airflow.api.patch(f"dags/{scenario.name}/dagRuns/{run_id}", {"state": "failed"})
        while environment.tasks.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _outcome(
        self, scenario: Scenario, took: dict[str, float], triggerer_cpu: float, memory: int, largest: dict[str, int]
    ) -> Outcome:
        seen = self.environment.seen_by_segmind(scenario)
        return Outcome(
            scenario,
            self.database.times(scenario),
            self.environment.tasks.of(self.database.task_instances(scenario)),
            requests=seen["requests"],
            request_times=seen["times"],
            refused=seen["refused"],
            triggerer_cpu=triggerer_cpu,
            triggerer_bytes=memory,
            first_post=seen["first_post"],
            alone=bool(took),
            largest=largest,
            faults=self._faults(scenario, seen["posts"], seen["file_sha256"]),
            services_cpu=took,
        )

    def _faults(self, scenario: Scenario, posts: dict[str, int], sha256: str) -> list[str]:
        """Return what is not as it must be: each image posted once and stored once, whole."""
        faults = []
        if (state := self.database.state(scenario)) != "success":
            faults.append(f"the run is {state}")
        if len(posts) != scenario.images or sum(posts.values()) != scenario.images:
            faults.append(f"{sum(posts.values())} POSTs of {len(posts)} images instead of {scenario.images}")
        stored = {
            key: digest for key, (_, digest, _) in self.environment.results(scenario).items() if "/_segmind/" not in key
        }
        if len(stored) != scenario.images or set(stored.values()) - {sha256}:
            faults.append(f"{len(stored)} results instead of {scenario.images}, or damaged ones")
        if unsupported := self.environment.seen_by_s3()["unsupported"]:
            faults.append(f"S3 was asked for {unsupported} things that it does not know")
        return faults


def _lives(name: str) -> bool:
    return not name.startswith("command-")
