"""Storing a result, with what tests rarely care about filled in."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import BinaryIO

from airflow_provider_segmind.files.destination import Destination, parse_destination, store
from airflow_provider_segmind.files.location import Location
from airflow_provider_segmind.files.provenance import Provenance, StoredResult, find_at
from airflow_provider_segmind.files.source import parse_image

from .pictures import PNG


def provenance(
    content: bytes = PNG, image: str = "s3://photos/a/front.jpg", flags: str = "", **facts: object
) -> Provenance:
    source = parse_image(image)
    made_from = {
        "request_id": "request-1",
        "model": "bria-erase-foreground",
        "source": source.label,
        "source_digest": source.digest,
        "input_digest": hashlib.sha256(f"{source.digest}{flags}".encode()).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": 31,
        "height": 17,
    }
    return Provenance(**{**made_from, **facts})


def put(
    target: str | Location,
    content: bytes = PNG,
    *,
    of: Provenance | None = None,
    file: BinaryIO | None = None,
    content_type: str = "image/png",
    derived: bool = False,
    s3_extra_args: Mapping[str, object] | None = None,
) -> None:
    store(
        file or io.BytesIO(content),
        target if isinstance(target, Location) else parse_destination(target).location,
        content_type=content_type,
        provenance=of or provenance(content),
        aws_conn_id="aws_default",
        s3_extra_args=s3_extra_args,
        derived=derived,
    )


def stored_at(target: str | Location) -> StoredResult | None:
    return find_at(target if isinstance(target, Location) else parse_destination(target).location, "aws_default")


def derived_name(destination: Destination, image: str) -> Location:
    """Return where the result of an image goes at a prefix."""
    return destination.locate(stem=parse_image(image).stem or "", extension=".png")
