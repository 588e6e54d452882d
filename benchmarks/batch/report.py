"""The tables of what whole runs took."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.batch.measuring import Outcome, Start
from benchmarks.tables import table

WAYS = {
    "blocking": "Segmind's official client in a mapped `@task`",
    "mapped": "(d) mapped `BriaEraseForegroundOperator`",
    "batch": "(e) `BriaEraseForegroundBatchOperator`",
}


def _number(value: float, digits: int = 2) -> str:
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def cost_table(outcomes: Sequence[Outcome]) -> str:
    """Return what the runs cost that went on alone."""
    blocking = next((outcome.slot_seconds for outcome in outcomes if outcome.scenario.way == "blocking"), math.nan)
    rows = [
        (
            WAYS[outcome.scenario.way],
            f"{outcome.scenario.images:,}",
            _number(outcome.times.seconds, 0),
            _number(outcome.requests_an_image),
            _number(outcome.worker_cpu, 3),
            _number(outcome.triggerer_cpu / outcome.scenario.images, 3),
            _number(outcome.slot_seconds, 3),
            f"1/{blocking / outcome.slot_seconds:,.0f}" if outcome.slot_seconds else "",
            str(len(outcome.processes)),
            _number(outcome.peak_bytes / 1e6, 0),
            _number(outcome.triggerer_bytes / 1e6, 0),
        )
        for outcome in outcomes
    ]
    headings = ["way", "images", "run, s", "requests an image", "CPU an image: workers, s", "triggerer, s"]
    headings += ["worker slot an image, s", "of the blocking client's", "task processes", "largest of them, MB"]
    return table([*headings, "triggerer, MB"], rows)


def limit_table(outcomes: Sequence[Outcome]) -> str:
    """Return how the runs did whose account's limit decided how long they took."""
    rows = [
        (
            f"{outcome.scenario.limit}",
            "yes" if outcome.scenario.declared else "no",
            str(outcome.scenario.options.get("watch", "status")),
            f"{outcome.scenario.images:,}",
            _number(outcome.requests_an_image, 3),
            _number(outcome.times.seconds, 0),
            _number(outcome.makespan_ratio, 3),
            _number(outcome.scenario.images * 60 / outcome.times.seconds, 1),
            str(len(outcome.refused)),
            str(outcome.refused_in_a_minute),
            str(len(outcome.processes)),
        )
        for outcome in outcomes
    ]
    headings = ["limit, a minute", "declared", "watch", "images", "requests an image", "run, s"]
    headings += ["run over the least for its requests", "images a minute", "429s", "most 429s in a minute"]
    return table([*headings, "task processes"], rows)


def row_table(outcomes: Sequence[Outcome]) -> str:
    """Return the largest rows in Airflow's database while the batches ran."""
    kinds = list(outcomes[0].largest)
    rows = [
        (outcome.scenario.name, *(_number(outcome.largest.get(kind, 0) / 1024, 1) for kind in kinds))
        for outcome in outcomes
    ]
    return table(["run", *(f"largest {kind}, KiB" for kind in kinds)], rows)


def start_table(start: Start) -> str:
    """Return how long it took to begin."""
    memory = (_number(start.peak_bytes / 1e6, 0), _number(start.first_bytes / 1e6, 0))
    headings = ["images", "from the start of the task's process to the first POST, s", "its memory by then, MB"]
    cells = (f"{start.scenario.images:,}", _number(start.seconds, 1), *memory)
    return table([*headings, "its memory at its start, MB"], [cells])


def faults(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what was not as it must be: then the figures mean nothing."""
    return [f"{outcome.scenario.name}: {fault}" for outcome in outcomes for fault in outcome.faults]
