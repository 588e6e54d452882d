"""Draws a plan from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from chaos.plan import (
    BATCH_DAGS,
    BATCH_POINTS,
    POINTS,
    ROUTE_WEIGHTS,
    SHARING_DAGS,
    TARGET_WEIGHTS,
    BatchDeath,
    BatchPlan,
    Deletion,
    ImagePlan,
    OutsideKill,
    Plan,
    Point,
    Route,
    SharedImage,
)

T = TypeVar("T")

OFTEN = ("ledger_submitting", "ledger_submitted", "ledger_delivered")
MAX_PASSES = {f"{moment}_{write}": 10 for write in OFTEN for moment in ("before", "after")} | {
    "mid_download": 5,
    "mid_upload": 5,
}
"""How often even a short part of a batch gets to a point. It gets to the others once or twice."""

MAX_LIFE = 1.0
"""Seconds for which a batch's task process has been seen at most when a kill hits it. Most live a little longer."""


@dataclass(frozen=True)
class Sizes:
    """
    How much a run does.

    :param images: the number of images of mapped tasks
    :param deaths: the number of deaths of their task processes at named points
    :param outside: the number of kills from outside
    :param shared: the number of images that two DAGs share
    :param shared_deaths: the number of deaths of their task processes at named points
    :param batch: the number of images of each of two batches
    :param batch_deaths: the number of deaths of each batch's task processes at named points
    :param batch_kills: the number of kills of each batch's task processes at any moment
    """

    images: int = 0
    deaths: int = 0
    outside: int = 0
    shared: int = 0
    shared_deaths: int = 0
    batch: int = 0
    batch_deaths: int = 0
    batch_kills: int = 0


def draw_plan(seed: int, sizes: Sizes) -> Plan:
    """
    Draw a plan. The same seed and sizes always give the same plan.

    Each part draws from a generator of its own. The order of its draws is part of what a seed means, so it must not
    change.

    :param seed: the seed
    :param sizes: how much the run does
    """
    images, kills = _draw_mapped(random.Random(seed), sizes)
    shared, deletions = _draw_shared(random.Random(f"{seed} shared"), sizes)
    batches, batch_deletions = _draw_batches(random.Random(f"{seed} batches"), sizes)
    return Plan(seed, images, kills, shared, batches, deletions + batch_deletions)


def _draw_mapped(rng: random.Random, sizes: Sizes) -> tuple[tuple[ImagePlan, ...], tuple[OutsideKill, ...]]:
    """Draw the images of the mapped tasks and the kills from outside."""
    routes = [route for route, count in _split(sizes.images, ROUTE_WEIGHTS).items() for _ in range(count)]
    rng.shuffle(routes)
    deaths = _spread_deaths(rng, [route.startswith("wait") for route in routes], sizes.deaths)
    mapped: Counter[Route] = Counter()
    images = []
    for number, route in enumerate(routes):
        images.append(ImagePlan(f"photo-{number:04}", route, mapped[route], deaths[number]))
        mapped[route] += 1
    targets = [target for target, count in _split(sizes.outside, TARGET_WEIGHTS).items() for _ in range(count)]
    rng.shuffle(targets)
    return tuple(images), tuple(OutsideKill(target, rng.uniform(3, 10), rng.uniform(1, 4)) for target in targets)


def _draw_shared(rng: random.Random, sizes: Sizes) -> tuple[tuple[SharedImage, ...], tuple[Deletion, ...]]:
    """Draw the shared images. Of each DAG one run is deleted."""
    deaths = _spread_deaths(rng, [True] * sizes.shared, sizes.shared_deaths)
    images = tuple(SharedImage(f"shared-{number:04}", deaths[number]) for number in range(sizes.shared))
    if not images:
        return (), ()
    early, late = rng.uniform(0.15, 0.4), rng.uniform(0.5, 0.8)
    dags = rng.sample(SHARING_DAGS, 2)
    return images, (Deletion(dags[0], early), Deletion(dags[1], late))


def _draw_batches(rng: random.Random, sizes: Sizes) -> tuple[tuple[BatchPlan, ...], tuple[Deletion, ...]]:
    """Draw the batches. A run of the second one is deleted."""
    if not sizes.batch:
        return (), ()
    batches = []
    for dag_id in BATCH_DAGS:
        points = [BATCH_POINTS[number % len(BATCH_POINTS)] for number in range(sizes.batch_deaths)]
        rng.shuffle(points)
        points.sort(key=lambda point: not point.endswith("batch_inputs"))  # which only the first part writes
        deaths = tuple(BatchDeath(point, rng.randint(1, MAX_PASSES.get(point, 1))) for point in points)
        kills = tuple(rng.uniform(0, MAX_LIFE) for _ in range(sizes.batch_kills))
        batches.append(BatchPlan(dag_id, sizes.batch, deaths, kills))
    return tuple(batches), (Deletion(BATCH_DAGS[1], rng.uniform(0.35, 0.65)),)


def _split(total: int, weights: dict[T, float]) -> dict[T, int]:
    """Split a number by weights. The remainder that rounding leaves goes to the first ones."""
    whole = sum(weights.values())
    counts = {name: int(total * weight / whole) for name, weight in weights.items()}
    for name in list(weights)[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _spread_deaths(rng: random.Random, waits_in_worker: Sequence[bool], deaths: int) -> list[tuple[Point, ...]]:
    """
    Spread deaths evenly over the points and at random over the images, of which some die more than once.

    :param waits_in_worker: for each image, whether a worker waits for its job. Only then it can die ``while_waiting``
    """
    image_deaths: list[set[Point]] = [set() for _ in waits_in_worker]
    for number in range(deaths):
        point = POINTS[number % len(POINTS)]
        candidates = [
            image
            for image, waits in enumerate(waits_in_worker)
            if point not in image_deaths[image] and (point != "while_waiting" or waits)
        ]
        if not candidates:
            count = len(waits_in_worker)
            raise ValueError(f"{deaths} deaths are too many for {count} images. Use fewer deaths or more images.")
        image_deaths[rng.choice(candidates)].add(point)
    return [tuple(sorted(points, key=POINTS.index)) for points in image_deaths]
