"""What a DAG file pays for importing the operator, on top of ``import airflow.sdk``: median of fresh interpreters."""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 15
CODE = """
import time
import airflow.sdk
began = time.perf_counter()
import airflow_provider_segmind.operators.bria
print(time.perf_counter() - began)
"""


def main() -> None:
    """Measure and print."""
    times = []
    for _ in range(RUNS + 1):
        ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
        times.append(float(ran.stdout) * 1000)
    times = sorted(times[1:])  # the first one may have compiled
    print(f"import airflow_provider_segmind.operators.bria: {statistics.median(times):.1f} ms on top of airflow.sdk")
    print(f"({RUNS} fresh interpreters, {times[0]:.1f} to {times[-1]:.1f} ms)")


if __name__ == "__main__":
    main()
