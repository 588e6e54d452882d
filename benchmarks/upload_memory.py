"""
How much memory it takes to store a large result in S3: our upload, and one with boto3's own defaults.

Each runs in a fresh process, against moto's server in another one. What counts is the peak of the resident memory
above what the process had after it had stored a small file, so imports and clients are not in the figure.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MIB = 1 << 20
SIZE = 300 * MIB
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Row:
    """How much memory an upload took on top of what its process had before, in MiB."""

    upload: str
    extra_mib: float


def put_ours(file: BinaryIO, key: str) -> None:
    """Store a file as an operator does."""
    from airflow_provider_segmind.files.destination import parse_destination, store
    from airflow_provider_segmind.files.provenance import Provenance

    store(
        file,
        parse_destination(f"s3://results/{key}.png").location,
        content_type="image/png",
        provenance=Provenance("request", "model", "source", "source-digest", "input-digest", "sha256"),
        aws_conn_id="aws_default",
        derived=True,
    )


def put_boto3(file: BinaryIO, key: str) -> None:
    """Store a file as boto3 does by default."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    S3Hook().get_conn().upload_fileobj(file, "results", key)


def memory(field: str) -> int:
    """Return a figure of this process's memory, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


def run_upload(name: str) -> None:
    """Print the extra bytes of one upload; runs in a process of its own."""
    put = {"ours": put_ours, "boto3": put_boto3}[name]
    put(io.BytesIO(bytes(MIB)), "small")
    with tempfile.TemporaryFile() as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))
        file.seek(0)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = memory("VmRSS")
        put(file, "large")
        print(memory("VmHWM") - before)


def measure() -> list[Row]:
    """Measure both uploads, each in a fresh process."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout
        assert server.stdin
        extra = {"endpoint_url": server.stdout.readline().strip(), "region_name": "us-east-1"}
        connection = json.dumps({"conn_type": "aws", "login": "x", "password": "y", "extra": extra})
        environment = {**os.environ, "AIRFLOW_CONN_AWS_DEFAULT": connection}
        make_bucket = "from airflow.providers.amazon.aws.hooks.s3 import S3Hook; S3Hook().create_bucket('results')"
        subprocess.run([sys.executable, "-c", make_bucket], check=True, env=environment, capture_output=True)
        rows = []
        for name in ("ours", "boto3"):
            command = [sys.executable, "-m", "benchmarks.upload_memory", name]
            ran = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
            rows.append(Row(name, int(ran.stdout.split()[-1]) / MIB))
        server.stdin.close()
    return rows


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table."""
    lines = [f"| upload of {SIZE // MIB} MiB | extra memory, MiB |", "|---|---|"]
    return "\n".join([*lines, *(f"| {row.upload} | {row.extra_mib:.0f} |" for row in rows)])


def main() -> None:
    """Measure both and print."""
    print(as_markdown(measure()))


if __name__ == "__main__":
    run_upload(sys.argv[1]) if len(sys.argv) > 1 else main()
