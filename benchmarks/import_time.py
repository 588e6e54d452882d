"""
How long the import of our operator takes at each parsing of a DAG file, on top of ``import airflow.sdk``.

An operator of the Amazon provider is measured for comparison. Each measurement has a fresh interpreter, and the two
alternate, so that both see the same load of the machine.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 15
OURS, OTHER = "airflow_provider_segmind.operators.bria", "airflow.providers.amazon.aws.operators.s3"
CODE = """
import time
import airflow.sdk
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""


def measure(module: str) -> float:
    """Return the milliseconds that the import took."""
    code = CODE.format(module=module)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(ran.stdout) * 1000


def main() -> None:
    """Measure both and print the quartiles."""
    modules = (OURS, OTHER)
    for module in modules:
        measure(module)  # the first import may have to compile
    rounds = [[measure(module) for module in modules] for _ in range(ROUNDS)]
    print(f"On top of airflow.sdk, {ROUNDS} fresh interpreters each, alternating:")
    for module, times in zip(modules, zip(*rounds, strict=True), strict=True):
        first, median, third = statistics.quantiles(times, n=4, method="inclusive")
        print(
            f"import {module}: median {median:.1f} ms, quartiles {first:.1f} and {third:.1f} ms "
            f"({min(times):.1f} to {max(times):.1f} ms)"
        )


if __name__ == "__main__":
    main()
