"""Any model of Segmind's as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_segmind.api.models import check_model, check_payload
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.destination import parse_destination
from airflow_provider_segmind.operators.job import SegmindJobOperator

if TYPE_CHECKING:
    from airflow_provider_segmind.jobs.delivery import JobDescription


class SegmindRunModelOperator(SegmindJobOperator):
    """
    Run any Segmind model and store its first output.

    Returns the facts of the job (XCom): ``request_id``, ``model``, ``status``, ``output_url``, ``output_urls``,
    ``uri``, ``content_type``, ``size``, ``sha256``, ``width``, ``height``, ``image_width``, ``image_height`` and
    ``metrics``.

    :param model: the model's slug, from its page (templated)
    :param payload: the model's parameters, from its API page, sent as they are (templated). Only ``s3://`` addresses,
        anywhere in it, become presigned URLs, valid past the deadline
    :param kwargs: see :class:`~airflow_provider_segmind.operators.base.SegmindOperator`. At a prefix results are named
        by their request id, so ``if_exists="skip"`` needs a destination with a full name
    """

    template_fields: Sequence[str] = ("model", "payload", *SegmindJobOperator.template_fields)
    template_fields_renderers = {"payload": "json"}  # noqa: RUF012 - Airflow's own attribute

    def __init__(self, *, model: str, payload: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.payload = payload
        self._check("model", lambda _, value: check_model(value))
        self._check("payload", lambda _, value: check_payload(value))
        self._check("destination", self._refuse_skip_at_prefix, optional=True)

    def describe_job(self) -> JobDescription:
        """Return what to run."""
        from airflow_provider_segmind.jobs.descriptions import describe_model_run

        self._refuse_skip_at_prefix("destination", self.destination)
        return describe_model_run(self.model, self.payload, **self.job_options())

    def _refuse_skip_at_prefix(self, name: str, destination: object) -> None:
        if self.if_exists == "skip" and destination is not None and parse_destination(destination).is_prefix:
            raise SegmindInputError(
                f"{name}={destination!r} is a prefix, where results are named by their request id, so if_exists='skip' "
                "can find none. Name the result in full, such as 's3://bucket/results/cup.png'."
            )
