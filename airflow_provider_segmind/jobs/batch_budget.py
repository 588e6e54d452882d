"""What a batch may cost and how much of it may fail."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_segmind.exceptions import (
    SegmindBatchError,
    SegmindBudgetError,
    SegmindError,
    SegmindInputError,
    SegmindRequestError,
)
from airflow_provider_segmind.jobs.journal import Row, RowStatus

PUBLISHED_PRICES = {"bria-erase-foreground": 0.0427}
"""US dollars an image. Source: the model's machine-readable page, August 2026."""


def check_max_failures(value: object) -> int | float:
    """Return how many inputs may fail: a whole number, or a share of them between 0.0 and 1.0."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, float) and 0.0 <= value <= 1.0:
        return value
    raise SegmindInputError(
        f"Invalid max_failures {value!r}. Use a whole number of images, such as 10, or a share of them between 0.0 and "
        "1.0, such as 0.05."
    )


def check_max_cost(value: object) -> float:
    """Return an amount in US dollars."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise SegmindInputError(f"Invalid max_cost {value!r}. Use US dollars, a number above 0, or None for no limit.")


def failures_allowed(max_failures: float, total: int) -> int:
    """Return how many of ``total`` inputs may fail."""
    return max_failures if isinstance(max_failures, int) else math.floor(max_failures * total + 1e-9)


@dataclass(frozen=True, slots=True)
class Budget:
    """
    What may be spent.

    :param max_cost: US dollars for the whole run, ``None``: no limit
    :param spent: US dollars so far
    :param price: US dollars an image as far as known: what this run has paid on average, else what is published
    """

    max_cost: float | None
    spent: float
    price: float | None

    @classmethod
    def of(cls, max_cost: float | None, model: str, rows: Iterable[Row], spent_before: float) -> Budget:
        """Add up the rows. A completed job whose cost Segmind did not say counts with the price."""
        completed = [row for row in rows if row.status is RowStatus.COMPLETED or row.cost]
        costs = [row.cost for row in completed if row.cost is not None]
        price = sum(costs) / len(costs) if costs else PUBLISHED_PRICES.get(model)
        unknown = (len(completed) - len(costs)) * (price or 0.0)
        return cls(max_cost, spent_before + sum(costs) + unknown, price)

    def jobs_left(self, in_flight: int) -> int | None:
        """
        Return how many more jobs may be submitted, ``None``: as many as there are.

        Where no price is known the first job is bought alone, to learn it.
        """
        if self.max_cost is None:
            return None
        if self.price is None:
            return 0 if in_flight else 1
        if self.price <= 0:
            return None
        left = self.max_cost - self.spent - in_flight * self.price
        return max(math.floor(left / self.price + 1e-9), 0)


def not_submitted(reason: str, left: int, summary: Mapping[str, Any], *, over_budget: bool) -> SegmindError:
    """Return the error of a batch that has stopped before its end, and how to go on."""
    if over_budget:
        return SegmindBudgetError(
            f"{reason} ${summary['cost']:.2f} are spent, and {left} of {summary['total']} inputs are left. All that "
            "was paid for is stored. Raise max_cost and clear the task to go on."
        )
    return SegmindRequestError(
        f"{reason} {left} of {summary['total']} inputs were not submitted; all that was paid for is stored. Mend the "
        "cause and clear the task to go on."
    )


def too_many_failures(failures: int, allowed: int, max_failures: float, summary: Mapping[str, Any]) -> SegmindError:
    """Return the error of a batch whose failures are more than may be."""
    return SegmindBatchError(
        f"{failures} of {summary['total']} inputs failed, and max_failures={max_failures} allows {allowed}. All others "
        f"are stored. A retry or a Clear does only these; {summary['manifest']} says why each failed."
    )
