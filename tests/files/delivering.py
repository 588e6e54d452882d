"""An image on its way into a request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from airflow_provider_segmind.api.operation import Operation
from airflow_provider_segmind.files.source import ImageDelivery, deliver_image, parse_image
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.drivers import SyncDriver


def no_upload(_: bytes | Path) -> str:
    raise AssertionError("nothing was to be uploaded")


def run_operation(operation: Operation[None]) -> None:
    driver = SyncDriver(SegmindSettings("SG_0123456789abcdef", connect_timeout=1.0))
    try:
        driver.run(operation)
    finally:
        driver.close()


def deliver(
    image: object,
    delivery: ImageDelivery = "auto",
    *,
    aws_conn_id: str | None = "aws_default",
    valid_for: float = 600,
    upload: Callable[[bytes | Path], str] = no_upload,
) -> str:
    return deliver_image(
        parse_image(image),
        delivery=delivery,
        aws_conn_id=aws_conn_id,
        valid_for=valid_for,
        upload=upload,
        run_operation=run_operation,
    )
