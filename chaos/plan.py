"""What a seed decides: which image goes which way, where its task dies, and who else is killed, in which order."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

T = TypeVar("T")

PLAN_VARIABLE = "CHAOS_PLAN"
"""The environment variable that names the plan's file to the DAG and to the task processes."""

BUCKET = "photos"
INCOMING, ERASED = f"s3://{BUCKET}/incoming/", f"s3://{BUCKET}/erased/"

Route = Literal["defer_url", "defer_inline", "wait_url", "wait_inline"]
"""How an image travels: the wait on the triggerer or in the worker; by URL or as Base64. A mapped task each."""

SHARES: dict[Route, float] = {"defer_url": 0.5, "defer_inline": 0.2, "wait_url": 0.2, "wait_inline": 0.1}

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
"""A moment in the life of a task process at which it may be made to die. ``chaos/deaths.py`` says where each lies."""

POINTS: tuple[Point, ...] = (
    "intent_to_post",
    "post_to_checkpoint",
    "checkpoint_to_wait",
    "while_waiting",
    "mid_download",
    "mid_upload",
    "stored_to_delivered",
    "delivered_to_end",
)

Target = Literal[
    "task", "scheduler", "scheduler_host", "triggerer", "triggerer_host", "api-server", "emulator", "s3", "s3_silent",
    "postgres", "postgres_backend",
]  # fmt: skip
"""Who is killed from outside. ``..._host``: with all its children, as when the machine goes. ``s3_silent``: S3 is not
gone but says nothing more for a while."""

OUTSIDE: dict[Target, float] = {
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
"""How often each in a run of 40 such kills."""


@dataclass(frozen=True)
class ImagePlan:
    """
    One image.

    :param stem: its name, and that of its result
    :param route: how it travels
    :param map_index: its place among the mapped tasks of its route
    :param deaths: where its task process dies, once at each
    """

    stem: str
    route: Route
    map_index: int
    deaths: tuple[Point, ...]

    @property
    def source(self) -> str:
        """Where the photo lies."""
        return f"{INCOMING}{self.stem}.jpg"

    @property
    def target(self) -> str:
        """Where the result must be in the end."""
        return f"{ERASED}{self.stem}.png"


@dataclass(frozen=True)
class OutsideKill:
    """
    One kill from outside.

    :param target: who
    :param after: seconds after the one before it
    :param down: seconds until it is started again
    """

    target: Target
    after: float
    down: float


@dataclass(frozen=True)
class Plan:
    """
    A whole run. The same seed and sizes make the same plan; the moments at which it meets the tasks are the clock's.

    :param seed: what it was made from
    :param images: the images
    :param outside: the kills from outside, in their order
    """

    seed: int
    images: tuple[ImagePlan, ...]
    outside: tuple[OutsideKill, ...]

    @classmethod
    def make(cls, seed: int, images: int, deaths: int, outside: int) -> Plan:
        """
        Draw a plan.

        :param seed: the seed
        :param images: how many images
        :param deaths: how many deaths of task processes at named points
        :param outside: how many kills from outside
        """
        draw = random.Random(seed)
        routes = [route for route, count in _shared_out(SHARES, images).items() for _ in range(count)]
        draw.shuffle(routes)
        fates = _fates(draw, routes, deaths)
        places: Counter[Route] = Counter()
        planned = []
        for number, route in enumerate(routes):
            points = tuple(sorted(fates[number], key=POINTS.index))
            planned.append(ImagePlan(f"photo-{number:04}", route, places[route], points))
            places[route] += 1
        targets = [target for target, count in _shared_out(OUTSIDE, outside).items() for _ in range(count)]
        draw.shuffle(targets)
        kills = tuple(OutsideKill(target, draw.uniform(3, 10), draw.uniform(1, 4)) for target in targets)
        return cls(seed, tuple(planned), kills)

    def of_route(self, route: Route) -> Iterator[ImagePlan]:
        """Iterate over the images of one mapped task, in the order of their map indexes."""
        return (image for image in self.images if image.route == route)

    @property
    def deaths(self) -> Counter[Point]:
        """How many deaths are planned at each point."""
        return Counter(point for image in self.images for point in image.deaths)

    def write(self, path: Path) -> None:
        """Keep it for other processes."""
        path.write_text(json.dumps(dataclasses.asdict(self)), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read what :meth:`write` kept."""
        value = json.loads(path.read_text("utf-8"))
        images = (ImagePlan(**(image | {"deaths": tuple(image["deaths"])})) for image in value["images"])
        return cls(value["seed"], tuple(images), tuple(OutsideKill(**kill) for kill in value["outside"]))


def _shared_out(shares: dict[T, float], total: int) -> dict[T, int]:
    """Split a number by shares; what rounding leaves over goes to the first ones."""
    whole = sum(shares.values())
    counts = {name: int(total * share / whole) for name, share in shares.items()}
    for name in list(shares)[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _fates(draw: random.Random, routes: list[Route], deaths: int) -> list[set[Point]]:
    """Spread deaths evenly over the points, and at random over the images: some die more than once."""
    fates: list[set[Point]] = [set() for _ in routes]
    placed = 0
    while placed < deaths:
        point = POINTS[placed % len(POINTS)]
        fitting = [
            number
            for number, route in enumerate(routes)
            if point not in fates[number] and (point != "while_waiting" or route.startswith("wait"))
        ]
        if not fitting:
            raise ValueError(f"{deaths} deaths are too many for {len(routes)} images")
        fates[draw.choice(fitting)].add(point)
        placed += 1
    return fates
