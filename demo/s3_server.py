"""A local S3: moto's server as a process, and a client for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from demo.process import Process
from demo.stack import Stack

REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "demo", "demo-secret"


class S3Server:
    """
    An empty S3 on a free port. Its objects are lost when it ends.

    :param stack: the stack in which it runs
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        script = str(Path(__file__).with_name("atomic_moto.py"))
        # -P: the modules of its folder do not hide others of the same name.
        command = [sys.executable, "-P", script, "--host=127.0.0.1", "--port=0"]
        self.process: Process = stack.start("s3", command)
        self._url: str | None = None
        self._client: Any = None

    @property
    def url(self) -> str:
        """The endpoint URL. Waits until the server has started."""
        if self._url is None:
            self._url = self.process.wait_for_line(r"Running on (http://127\.0\.0\.1:[1-9]\d*)", timeout=60)[1]
        return self._url

    @property
    def connection(self) -> str:
        """An Airflow connection to it, as JSON."""
        return json.dumps(
            {
                "conn_type": "aws",
                "login": ACCESS_KEY,
                "password": SECRET_KEY,
                "extra": {"endpoint_url": self.url, "region_name": REGION},
            }
        )

    @property
    def client(self) -> Any:
        """A boto3 client."""
        if self._client is None:
            import boto3  # type: ignore[import-untyped]
            from botocore.config import Config  # type: ignore[import-untyped]

            self._client = boto3.client(
                "s3",
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                config=Config(proxies={}, s3={"addressing_style": "path"}),
            )
            self.stack.on_close(self._client.close)
        return self._client

    def make_bucket(self, name: str) -> None:
        """Create a bucket."""
        self.client.create_bucket(Bucket=name)

    def upload(self, content: bytes | Path, uri: str) -> str:
        """
        Store an object.

        :param content: its bytes, or a file
        :param uri: ``s3://bucket/key``
        """
        bucket, key = split(uri)
        body = content.read_bytes() if isinstance(content, Path) else content
        self.client.put_object(Bucket=bucket, Key=key, Body=body)
        return uri

    def read(self, uri: str) -> dict[str, Any]:
        """Return an object with ``Body`` (bytes), ``ContentType`` and ``Metadata``."""
        bucket, key = split(uri)
        found: dict[str, Any] = self.client.get_object(Bucket=bucket, Key=key)
        return found | {"Body": found["Body"].read()}

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys in a bucket that start with a prefix."""
        response = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [found["Key"] for found in response.get("Contents", [])]


def split(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key``."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
