"""
How long the import of our operator takes at each parsing of a DAG file, on top of ``import airflow.sdk``.

An operator of the Amazon provider is measured for comparison. Each measurement has a fresh interpreter, and the two
alternate, so that both see the same load of the machine.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.tables import table

ROUNDS = 15
OURS, OTHER = "airflow_provider_segmind.operators.bria", "airflow.providers.amazon.aws.operators.s3"
CODE = """
import time
import airflow.sdk
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""


@dataclass(frozen=True)
class Row:
    """The milliseconds that an import took in each fresh interpreter."""

    module: str
    milliseconds: tuple[float, ...]


def import_once(module: str) -> float:
    """Return the milliseconds that the import took."""
    code = CODE.format(module=module)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(ran.stdout) * 1000


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Measure both modules, in turn."""
    modules = (OURS, OTHER)
    for module in modules:
        import_once(module)  # the first import may have to compile
    times = [[import_once(module) for module in modules] for _ in range(rounds)]
    return [Row(module, took) for module, took in zip(modules, zip(*times, strict=True), strict=True)]


def as_markdown(rows: list[Row]) -> str:
    """Return the rows as a table."""
    cells = []
    for row in rows:
        first, middle, third = statistics.quantiles(row.milliseconds, n=4, method="inclusive")
        extremes = f"{min(row.milliseconds):.1f} to {max(row.milliseconds):.1f}"
        cells.append((f"`{row.module}`", f"{middle:.1f}", f"{first:.1f} and {third:.1f}", extremes))
    return table(["import, on top of `airflow.sdk`", "median, ms", "quartiles", "least and greatest"], cells)


def main() -> None:
    """Measure both and print."""
    print(as_markdown(measure()))


if __name__ == "__main__":
    main()
