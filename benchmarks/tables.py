"""The tables that the benchmarks print, in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def spread(values: Iterable[float], digits: int = 2) -> str:
    """
    Return the median, and the least and the greatest value in parentheses if they differ from it in what is shown.

    :param values: one for each run; nan means that the measurement does not apply, which is shown as an empty cell
    :param digits: decimal places
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    middle, least, greatest = (f"{value:,.{digits}f}" for value in (statistics.median(known), min(known), max(known)))
    return middle if least == greatest else f"{middle} ({least} to {greatest})"
