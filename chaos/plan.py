"""
The plan of a run, drawn from a seed.

It says which way each image goes, at which points its task process dies, which components are killed from outside, in
which order, and when a run is deleted.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

PLAN_VARIABLE = "CHAOS_PLAN"
"""The environment variable that tells the DAG file and the task processes where the plan's file is."""

BUCKET = "photos"
INCOMING, ERASED = f"s3://{BUCKET}/incoming/", f"s3://{BUCKET}/erased/"
SHARED_BUCKET = "shared"
"""The results of the shared images. The bucket keeps all versions, which tell when a job's result was first stored."""

LEDGER = f"s3://{BUCKET}/ledger/"

MAPPED_DAG = "erase_many"
SHARING_DAGS = ("erase_shared_deferring", "erase_shared_waiting")
"""Two DAGs that process the same images over one ledger, each with a destination of its own and without a task state
store, as before Airflow 3.3. The first waits on the triggerer, the second in the worker."""

BATCH_BUCKET = "batches"
BATCH_DAGS = ("erase_batch", "erase_batch_deleted")
"""Two DAGs of one batch task each. A run of the second one is deleted in the middle."""

Route = Literal["defer_url", "defer_inline", "wait_url", "wait_inline"]
"""How an image is processed: the wait is on the triggerer or in the worker, and the image is sent as a URL or as
Base64. Each route is one mapped task."""

ROUTE_WEIGHTS: dict[Route, float] = {"defer_url": 0.5, "defer_inline": 0.2, "wait_url": 0.2, "wait_inline": 0.1}

Point = Literal[
    "intent_to_post",
    "post_to_checkpoint",
    "checkpoint_to_wait",
    "while_waiting",
    "mid_download",
    "mid_upload",
    "stored_to_delivered",
    "delivered_to_end",
]
"""A point in the work of a task process at which the process can be made to die; see :mod:`chaos.deaths`."""

POINTS: tuple[Point, ...] = get_args(Point)

BatchWrite = Literal[
    "ledger_submitting",
    "ledger_submitted",
    "ledger_delivered",
    "journal_shard",
    "batch_state",
    "journal_compact",
    "failed_list",
    "manifest",
    "batch_inputs",
    "batch_existing",
]
"""What a batch writes beside its results; see :mod:`chaos.batch_deaths`."""

BATCH_POINTS: tuple[str, ...] = (
    *(f"{moment}_{write}" for write in get_args(BatchWrite) for moment in ("before", "after")),
    "mid_download",
    "mid_upload",
    "checkpoint_to_wait",
    "delivered_to_end",
)
"""The points in the work of a batch's task process at which the process can be made to die."""

Target = Literal[
    "task", "scheduler", "scheduler_host", "triggerer", "triggerer_host", "api-server", "emulator", "s3", "s3_silent",
    "postgres", "postgres_backend",
]  # fmt: skip
"""What is killed from outside. ``..._host`` also kills all children, as when a machine fails. ``s3_silent`` keeps S3
from responding for a while, with its connections left open."""

TARGET_WEIGHTS: dict[Target, float] = {
    "task": 10,
    "scheduler": 2,
    "scheduler_host": 2,
    "triggerer": 3,
    "triggerer_host": 2,
    "api-server": 2,
    "emulator": 7,
    "s3": 5,
    "s3_silent": 3,
    "postgres": 2,
    "postgres_backend": 2,
}
"""How often each target is killed in a run with 40 kills from outside."""


@dataclass(frozen=True)
class ImagePlan:
    """
    The plan for one image.

    :param stem: the name of the photo and of its result, without extension
    :param route: how it is processed
    :param map_index: its map index in the mapped task of its route
    :param deaths: the points at which its task process dies, once at each
    """

    stem: str
    route: Route
    map_index: int
    deaths: tuple[Point, ...]

    @property
    def source(self) -> str:
        """The URI of the photo."""
        return f"{INCOMING}{self.stem}.jpg"

    @property
    def target(self) -> str:
        """The URI at which the result must be stored in the end."""
        return f"{ERASED}{self.stem}.png"


@dataclass(frozen=True)
class SharedImage:
    """
    The plan for one image that both :data:`SHARING_DAGS` process.

    :param stem: the name of the photo and of its results, without extension
    :param deaths: the points at which one of its two task processes dies, the one that gets there first
    """

    stem: str
    deaths: tuple[Point, ...]

    @property
    def source(self) -> str:
        """The URI of the photo."""
        return f"{INCOMING}{self.stem}.jpg"

    def target(self, dag_id: str) -> str:
        """
        Return the URI at which the result of a DAG must be stored in the end.

        :param dag_id: one of :data:`SHARING_DAGS`
        """
        return f"s3://{SHARED_BUCKET}/{dag_id}/{self.stem}.png"


@dataclass(frozen=True)
class BatchDeath:
    """
    A death of a batch's task process.

    :param point: one of :data:`BATCH_POINTS`
    :param passes: the number of times that the process gets to the point, the last time included
    """

    point: str
    passes: int


@dataclass(frozen=True)
class BatchPlan:
    """
    The plan for one batch.

    :param dag_id: one of :data:`BATCH_DAGS`, whose only task it is
    :param images: the number of its images
    :param deaths: the deaths of its task processes at named points; they come due in this order
    :param kills: the kills of its task processes at any moment: the seconds for which the process has been seen
    """

    dag_id: str
    images: int
    deaths: tuple[BatchDeath, ...]
    kills: tuple[float, ...]

    @property
    def folder(self) -> str:
        """The prefix of its photos."""
        return f"s3://{BATCH_BUCKET}/{self.dag_id}/"

    @property
    def stored_at(self) -> str:
        """The prefix of its results, of its state and of its ledger."""
        return f"s3://{BATCH_BUCKET}/{self.dag_id}-erased/"

    @property
    def stems(self) -> tuple[str, ...]:
        """The names of its photos and of their results, without extension."""
        return tuple(f"{self.dag_id}-{number:04}" for number in range(self.images))

    @property
    def sources(self) -> tuple[str, ...]:
        """The URIs of its photos."""
        return tuple(f"{self.folder}{stem}.jpg" for stem in self.stems)

    def target(self, stem: str) -> str:
        """Return the URI at which the result of a photo must be stored in the end."""
        return f"{self.stored_at}{stem}.png"


@dataclass(frozen=True)
class Deletion:
    """
    A run that is deleted in the middle; then a new run of its DAG is started.

    :param dag_id: its DAG
    :param share: the share of its images that have a result when it is deleted
    """

    dag_id: str
    share: float


@dataclass(frozen=True)
class OutsideKill:
    """
    One kill from outside.

    :param target: what is killed
    :param delay: seconds after the kill before it
    :param downtime: seconds until the target is started again
    """

    target: Target
    delay: float
    downtime: float


@dataclass(frozen=True)
class Plan:
    """
    The plan of a whole run.

    :param seed: the seed that it was drawn from
    :param images: the images of the mapped tasks of :data:`MAPPED_DAG`
    :param kills: the kills from outside, in order
    :param shared: the images that :data:`SHARING_DAGS` share
    :param batches: the batches
    :param deletions: the runs that are deleted and started anew
    """

    seed: int
    images: tuple[ImagePlan, ...]
    kills: tuple[OutsideKill, ...]
    shared: tuple[SharedImage, ...] = ()
    batches: tuple[BatchPlan, ...] = ()
    deletions: tuple[Deletion, ...] = ()

    def images_of_route(self, route: Route) -> Iterator[ImagePlan]:
        """Iterate over the images of one mapped task, in the order of their map indexes."""
        return (image for image in self.images if image.route == route)

    @property
    def deaths(self) -> Counter[Point]:
        """The number of planned deaths at each point, of tasks with one image each."""
        return Counter(point for _, deaths in self.deaths_by_stem for point in deaths)

    @property
    def deaths_by_stem(self) -> Iterator[tuple[str, tuple[Point, ...]]]:
        """The planned deaths of each image that has tasks of its own."""
        yield from ((image.stem, image.deaths) for image in self.images)
        yield from ((image.stem, image.deaths) for image in self.shared)

    @property
    def batch_deaths(self) -> Counter[str]:
        """The number of planned deaths of batches at each point."""
        return Counter(death.point for batch in self.batches for death in batch.deaths)

    @property
    def kill_count(self) -> int:
        """The number of all planned deaths and kills."""
        at_any_moment = len(self.kills) + sum(len(batch.kills) for batch in self.batches)
        return self.deaths.total() + self.batch_deaths.total() + at_any_moment

    @property
    def photos(self) -> tuple[str, ...]:
        """The URIs of all photos. Its position is the number that a photo is drawn from."""
        singles = (*(image.source for image in self.images), *(image.source for image in self.shared))
        return (*singles, *(source for batch in self.batches for source in batch.sources))

    def write(self, path: Path) -> None:
        """Write the plan to a file, for other processes."""
        path.write_text(json.dumps(dataclasses.asdict(self)), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan that :meth:`write` wrote."""
        value = json.loads(path.read_text("utf-8"))
        return cls(
            value["seed"],
            tuple(ImagePlan(**(image | {"deaths": tuple(image["deaths"])})) for image in value["images"]),
            tuple(OutsideKill(**kill) for kill in value["kills"]),
            tuple(SharedImage(image["stem"], tuple(image["deaths"])) for image in value["shared"]),
            tuple(_read_batch(batch) for batch in value["batches"]),
            tuple(Deletion(**deletion) for deletion in value["deletions"]),
        )


def _read_batch(value: Mapping[str, Any]) -> BatchPlan:
    deaths = tuple(BatchDeath(**death) for death in value["deaths"])
    return BatchPlan(value["dag_id"], value["images"], deaths, tuple(value["kills"]))
