"""
The plan of a run, drawn from a seed.

It says which way each image goes, at which points its task process dies, and which components are killed from outside,
in which order.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

T = TypeVar("T")

PLAN_VARIABLE = "CHAOS_PLAN"
"""The environment variable that tells the DAG file and the task processes where the plan's file is."""

BUCKET = "photos"
INCOMING, ERASED = f"s3://{BUCKET}/incoming/", f"s3://{BUCKET}/erased/"

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

    The same seed and sizes always give the same plan. Which tasks a kill from outside meets depends on timing.

    :param seed: the seed that it was drawn from
    :param images: the images
    :param kills: the kills from outside, in order
    """

    seed: int
    images: tuple[ImagePlan, ...]
    kills: tuple[OutsideKill, ...]

    @classmethod
    def draw(cls, seed: int, images: int, deaths: int, kills: int) -> Plan:
        """
        Draw a plan. The order of the random draws is part of what a seed means, so it must not change.

        :param seed: the seed
        :param images: the number of images
        :param deaths: the number of deaths of task processes at named points
        :param kills: the number of kills from outside
        """
        rng = random.Random(seed)
        routes = [route for route, count in _split(images, ROUTE_WEIGHTS).items() for _ in range(count)]
        rng.shuffle(routes)
        image_deaths = _spread_deaths(rng, routes, deaths)
        mapped: Counter[Route] = Counter()
        planned = []
        for number, route in enumerate(routes):
            points = tuple(sorted(image_deaths[number], key=POINTS.index))
            planned.append(ImagePlan(f"photo-{number:04}", route, mapped[route], points))
            mapped[route] += 1
        targets = [target for target, count in _split(kills, TARGET_WEIGHTS).items() for _ in range(count)]
        rng.shuffle(targets)
        return cls(
            seed,
            tuple(planned),
            tuple(OutsideKill(target, rng.uniform(3, 10), rng.uniform(1, 4)) for target in targets),
        )

    def images_of_route(self, route: Route) -> Iterator[ImagePlan]:
        """Iterate over the images of one mapped task, in the order of their map indexes."""
        return (image for image in self.images if image.route == route)

    @property
    def deaths(self) -> Counter[Point]:
        """The number of planned deaths at each point."""
        return Counter(point for image in self.images for point in image.deaths)

    def write(self, path: Path) -> None:
        """Write the plan to a file, for other processes."""
        path.write_text(json.dumps(dataclasses.asdict(self)), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan that :meth:`write` wrote."""
        value = json.loads(path.read_text("utf-8"))
        images = (ImagePlan(**(image | {"deaths": tuple(image["deaths"])})) for image in value["images"])
        return cls(value["seed"], tuple(images), tuple(OutsideKill(**kill) for kill in value["kills"]))


def _split(total: int, weights: dict[T, float]) -> dict[T, int]:
    """Split a number by weights. The remainder that rounding leaves goes to the first ones."""
    whole = sum(weights.values())
    counts = {name: int(total * weight / whole) for name, weight in weights.items()}
    for name in list(weights)[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _spread_deaths(rng: random.Random, routes: list[Route], deaths: int) -> list[set[Point]]:
    """Spread deaths evenly over the points and at random over the images, of which some die more than once."""
    image_deaths: list[set[Point]] = [set() for _ in routes]
    for number in range(deaths):
        point = POINTS[number % len(POINTS)]
        candidates = [
            image
            for image, route in enumerate(routes)
            if point not in image_deaths[image] and (point != "while_waiting" or route.startswith("wait"))
        ]
        if not candidates:
            raise ValueError(f"{deaths} deaths are too many for {len(routes)} images. Use fewer deaths or more images.")
        image_deaths[rng.choice(candidates)].add(point)
    return image_deaths
