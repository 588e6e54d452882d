"""How far a batch is, in numbers that a person can follow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_segmind.jobs.batch_plan import BatchItem
from airflow_provider_segmind.jobs.batch_state import BatchState
from airflow_provider_segmind.jobs.journal import Row, RowStatus


@dataclass(frozen=True, slots=True)
class Progress:
    """
    Counts the rows of a run.

    :param rows: the journal's, which grow while a part works
    """

    state: BatchState
    items: Sequence[BatchItem]
    rows: Mapping[str, Row]

    def summary(self, spent: float) -> dict[str, Any]:
        """Return the counts, what was spent, and how long the run has taken."""
        counts = Counter(self.rows[item.key].status for item in self.items if item.key in self.rows)
        return {
            "total": len(self.items),
            **{status.value: counts[status] for status in RowStatus},
            "cost": round(spent, 6),
            "seconds": round(time.time() - self.state.started_at, 1),
            "requests": self.state.requests,
        }

    def now(self, spent: float) -> dict[str, Any]:
        """Return the summary so far, with the rate and the seconds that are left at this rate."""
        summary = self.summary(spent)
        done = sum(summary[status.value] for status in RowStatus)
        worked = done - summary[RowStatus.SKIPPED.value]
        rate = worked / summary["seconds"] * 60 if summary["seconds"] > 0 else 0.0
        left = summary["total"] - done
        return {
            **summary,
            "done": done,
            "in_flight": len(self.state.in_flight),
            "images_per_minute": round(rate, 1),
            "seconds_left": round(left / rate * 60) if rate else None,
        }


def as_sentence(progress: Mapping[str, Any], part: int) -> str:
    """Return the log line of a part."""
    failed = sum(progress[status.value] for status in (RowStatus.FAILED, RowStatus.BLOCKED, RowStatus.MISSING))
    left = progress["seconds_left"]
    eta = "" if left is None else f", about {left // 60} min {left % 60:02d} s left"
    return (
        f"Part {part}: {progress['done']}/{progress['total']} done ({progress['skipped']} skipped, {failed} failed), "
        f"{progress['in_flight']} in flight, ${progress['cost']:.2f} spent, {progress['images_per_minute']:g} images a "
        f"minute{eta}."
    )
