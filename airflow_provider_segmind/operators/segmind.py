"""Any model of Segmind's as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_segmind.api.models import check_model, check_payload
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.source import parse_image, presign
from airflow_provider_segmind.operators.job import SegmindJobOperator, Upload, known_at_parse


class SegmindRunModelOperator(SegmindJobOperator):
    """
    Run any Segmind model and store its first output.

    Returns the facts of the job (XCom): ``request_id``, ``model``, ``status``, ``output_url``, ``uri``,
    ``content_type``, ``size``, ``sha256``, ``width``, ``height`` and ``metrics``.

    :param model: the model's slug, from its page (templated)
    :param payload: the model's parameters, from its API page, sent as they are (templated); only ``s3://`` addresses
        at the top level become presigned URLs, valid past the deadline
    :param kwargs: see :class:`~airflow_provider_segmind.operators.job.SegmindJobOperator`
    """

    template_fields: Sequence[str] = ("model", "payload", "destination")
    template_fields_renderers = {"payload": "json"}  # noqa: RUF012 - Airflow's own attribute

    def __init__(self, *, model: str, payload: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if known_at_parse(model):
            check_model(model)
        if known_at_parse(payload):
            check_payload(payload)
        self.model = model
        self.payload = payload

    def job_model(self) -> str:
        """Return the model's slug."""
        return check_model(self.model)

    def job_inputs(self) -> Mapping[str, Any]:
        """Return the payload as the DAG gives it, its addresses without their signatures."""
        return {key: _identity(value) for key, value in check_payload(self.payload).items()}

    def job_payload(self, upload: Upload, valid_for: float) -> Mapping[str, Any]:  # noqa: ARG002 - the base's
        """Return the payload with its ``s3://`` addresses presigned."""
        return {
            key: presign(value, aws_conn_id=self.aws_conn_id, valid_for=valid_for, parameter=f"payload[{key!r}]")
            if isinstance(value, str) and value.lower().startswith("s3://")
            else value
            for key, value in check_payload(self.payload).items()
        }


def _identity(value: object) -> object:
    """Return what a value is known by: an address that is signed anew is the same input."""
    if isinstance(value, str) and value.lower().startswith(("https://", "http://")):
        with suppress(SegmindInputError):  # no valid address: the model is to say what it thinks of it
            return parse_image(value).identity
    return value
