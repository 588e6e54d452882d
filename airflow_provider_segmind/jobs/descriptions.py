"""What the operators' parameters describe: the erased photo of one image, and one run of any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_segmind.api.models import check_model, check_payload
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.location import parse_location
from airflow_provider_segmind.files.s3 import presign
from airflow_provider_segmind.files.source import (
    ImageDelivery,
    ImageFacts,
    deliver_image,
    inspect_image,
    inspect_objects,
    parse_image,
)
from airflow_provider_segmind.jobs.delivery import Fetch, JobDescription, Upload


def describe_image_job(
    model: str,
    image: object,
    flags: Mapping[str, Any],
    *,
    image_delivery: ImageDelivery = "auto",
    aws_conn_id: str | None = None,
    **options: Any,
) -> JobDescription:
    """
    Describe a job that makes one image of another.

    :param flags: the model's other parameters
    :param options: the other fields of the description
    """
    source = parse_image(image)

    def build_payload(upload: Upload, run_operation: Fetch, valid_for: float, facts: ImageFacts) -> Mapping[str, Any]:
        delivered = deliver_image(
            source,
            delivery=image_delivery,
            aws_conn_id=aws_conn_id,
            valid_for=valid_for,
            upload=upload,
            run_operation=run_operation,
            facts=facts,
        )
        return {"image": delivered, **flags}

    return JobDescription(
        model,
        {"image": source.address, **flags},
        build_payload,
        lambda: inspect_image(source, aws_conn_id=aws_conn_id),
        source,
        result_must_be_image=True,
        aws_conn_id=aws_conn_id,
        **options,
    )


def describe_model_run(
    model: str, payload: object, *, aws_conn_id: str | None = None, **options: Any
) -> JobDescription:
    """
    Describe a run of any model. ``s3://`` addresses anywhere in the payload become presigned URLs.

    :param options: the other fields of the description
    """
    parameters = check_payload(payload)

    def presigned(text: str, name: str, valid_for: float) -> str:
        if not _is_s3_address(text):
            return text
        return presign(parse_location(name, text), aws_conn_id=aws_conn_id, valid_for=valid_for)

    def build_payload(
        upload: Upload,  # noqa: ARG001
        run_operation: Fetch,  # noqa: ARG001
        valid_for: float,
        facts: ImageFacts,  # noqa: ARG001
    ) -> Mapping[str, Any]:
        built: Mapping[str, Any] = _map_texts(
            parameters, "payload", lambda text, name: presigned(text, name, valid_for)
        )
        return built

    return JobDescription(
        check_model(model),
        known_inputs(parameters),
        build_payload,
        lambda: inspect_objects(_s3_addresses(parameters), aws_conn_id=aws_conn_id),
        aws_conn_id=aws_conn_id,
        **options,
    )


def known_inputs(payload: object) -> Mapping[str, Any]:
    """Return what a payload is known by: its parameters, with URLs without their signatures."""
    inputs: Mapping[str, Any] = _map_texts(check_payload(payload), "payload", _without_signature)
    return inputs


def _map_texts(value: Any, name: str, change: Callable[[str, str], str]) -> Any:
    """Return a payload with each text in it changed, however deep; ``name`` is how an error calls the text."""
    if isinstance(value, str):
        return change(value, name)
    if isinstance(value, Mapping):
        return {key: _map_texts(item, f"{name}[{key!r}]", change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(item, f"{name}[{index}]", change) for index, item in enumerate(value)]
    return value


def _is_s3_address(text: str) -> bool:
    return text[:5].lower() == "s3://" and not any(map(str.isspace, text.strip()))


def _s3_addresses(payload: Mapping[str, Any]) -> dict[str, str]:
    """Return the S3 addresses in a payload by the names that errors call them."""
    found: dict[str, str] = {}

    def note(text: str, name: str) -> str:
        if _is_s3_address(text):
            found[name] = text
        return text

    _map_texts(payload, "payload", note)
    return found


def _without_signature(text: str, _: str) -> str:
    """Return what a text is known by: a URL with a new signature is the same input."""
    if text.lower().startswith(("https://", "http://")):
        with suppress(SegmindInputError):  # not a valid address: the model will say so
            return parse_image(text).address
    return text
