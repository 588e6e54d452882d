"""
The two servers that a worker part talks to, in a process of their own: an S3 and a Segmind whose jobs end at once.

Run as a program it prints the addresses of S3 and Segmind as JSON and serves until its input ends. ``GET /requests`` at
Segmind's address returns how often each request was made at either since it was last asked.
"""

from __future__ import annotations

import json
import logging
import os
import re
import struct
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RESULT_BYTES = 1_500_000
KEY = "SG_benchmark"
PHOTO = "s3://photos/incoming/cup.png"


@dataclass(frozen=True)
class Addresses:
    """Where the servers listen."""

    s3: str
    segmind: str

    def environment(self) -> dict[str, str]:
        """Return the environment in which Airflow's connections lead to them."""
        extra = {"endpoint_url": self.s3, "region_name": "us-east-1"}
        aws = {"conn_type": "aws", "login": "AKIATEST", "password": "secret", "extra": extra}
        segmind = {"conn_type": "segmind", "host": self.segmind, "password": KEY}
        return {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws), "AIRFLOW_CONN_SEGMIND_DEFAULT": json.dumps(segmind)}

    def requests(self) -> dict[str, int]:
        """Return how often each request was made since this was last called."""
        with urllib.request.urlopen(f"{self.segmind}/requests") as response:
            counted: dict[str, int] = json.load(response)
        return counted


def png_of(size: int) -> bytes:
    """Return a whole PNG of about this many bytes, whose pixels do not compress."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width = height = int((size / 3) ** 0.5)
    rows = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


@contextmanager
def services() -> Iterator[Addresses]:
    """Start both servers in another process and make the buckets."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        addresses = Addresses(**json.loads(process.stdout.readline()))
        try:
            yield addresses
        finally:
            process.stdin.close()


def _segmind(counted: Counter[str], file: bytes) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self, value: object, content_type: str = "application/json") -> None:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            counted["Segmind: POST"] += 1
            self._respond({"request_id": "request-1", "status": "QUEUED"})

        def do_GET(self) -> None:
            if self.path == "/requests":
                found = dict(sorted(counted.items()))
                counted.clear()
                self._respond(found)
            elif self.path.startswith("/files/"):
                counted["Segmind: GET file"] += 1
                self._respond(file, "image/png")
            else:
                counted["Segmind: GET result"] += 1
                url = f"http://{self.headers['Host']}/files/result.png"
                self._respond({"request_id": "request-1", "status": "COMPLETED", "images": [{"url": url}]})

        def log_message(self, *_: object) -> None:
            """Keep the output clean."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def _s3(counted: Counter[str]) -> Any:
    import boto3  # type: ignore[import-untyped]
    from moto import server as moto
    from werkzeug.serving import make_server

    application = moto.DomainDispatcherApplication(moto.create_backend_app)  # type: ignore[attr-defined]

    def count(environ: dict[str, Any], start_response: Any) -> Any:
        path = re.sub(r"/\d+/[^/]+\.(png|jpg|webp)$", r"/*.\1", environ["PATH_INFO"])
        part = " bytes=" if "HTTP_RANGE" in environ else ""
        counted[f"S3: {environ['REQUEST_METHOD']} {path}{part}"] += 1
        return application(environ, start_response)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, count, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    keys = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=url, **keys)
    for bucket in ("photos", "results"):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket="photos", Key="incoming/cup.png", Body=png_of(300_000))
    return server


def main() -> None:
    """Serve until the input ends."""
    counted: Counter[str] = Counter()
    segmind = _segmind(counted, png_of(RESULT_BYTES))
    threading.Thread(target=segmind.serve_forever, daemon=True).start()
    s3 = _s3(counted)
    counted.clear()
    here = "http://127.0.0.1"
    print(json.dumps({"s3": f"{here}:{s3.server_port}", "segmind": f"{here}:{segmind.server_port}"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
