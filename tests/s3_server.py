"""A local S3 server (moto's) with a bucket for each test."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest

PNG = b"\x89PNG\r\n\x1a\n" + b"the rest of a picture" * 4


class S3(NamedTuple):
    """A bucket for one test, on a real HTTP server."""

    url: str
    bucket: str
    client: object

    def put(self, key: str, body: bytes = PNG) -> str:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def get(self, key: str) -> dict:
        answer = self.client.get_object(Bucket=self.bucket, Key=key)
        return {**answer, "Body": answer["Body"].read()}

    def keys(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def unfinished_uploads(self) -> list[dict]:
        return self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])


def aws_connection(endpoint_url: str, **extra: object) -> str:
    """Return a connection as JSON. botocore does not retry, so that tests of a broken S3 do not wait."""
    config = {"retries": {"total_max_attempts": 1}, **extra.pop("config_kwargs", {})}
    return json.dumps(
        {
            "conn_type": "aws",
            "login": "AKIATEST",
            "password": "the-secret-key",
            "extra": {
                "endpoint_url": endpoint_url,
                "region_name": "us-east-1",
                "config_kwargs": config,
                **extra,
            },
        }
    )


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> S3:
    import boto3

    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(s3_url))
    client = boto3.client(
        "s3",
        endpoint_url=s3_url,
        region_name="us-east-1",
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="the-secret-key",
    )
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return S3(s3_url, bucket, client)
