"""Any model of Segmind's as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_segmind.api.models import check_model, check_payload
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.destination import parse_destination
from airflow_provider_segmind.files.naming import NameTemplate
from airflow_provider_segmind.operators.batch import SegmindBatchOperator
from airflow_provider_segmind.operators.job import SegmindJobOperator
from airflow_provider_segmind.operators.parameters import check_payloads

if TYPE_CHECKING:
    from airflow_provider_segmind.files.destination import Destination
    from airflow_provider_segmind.jobs.batch_plan import BatchItem, Inputs
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


class SegmindRunModelBatchOperator(SegmindBatchOperator):
    """
    Run any Segmind model once for each of many payloads, in one task, and store each first output.

    Returns a summary and leaves a manifest; see
    :class:`~airflow_provider_segmind.operators.batch.SegmindBatchOperator`.

    :param model: the model's slug, from its page (templated)
    :param payloads: a list of the model's parameters, one dict for each job, as in :class:`SegmindRunModelOperator`
        (templated)
    :param destination: a prefix, which ends in ``/`` (templated)
    :param kwargs: see :class:`~airflow_provider_segmind.operators.batch.SegmindBatchOperator`. In ``name_template``,
        ``{stem}`` is the beginning of a digest of the model and the payload, so a payload keeps its name when the list
        changes
    """

    template_fields: Sequence[str] = ("model", "payloads", *SegmindBatchOperator.template_fields)
    template_fields_renderers = {"payloads": "json"}  # noqa: RUF012 - Airflow's own attribute

    def __init__(self, *, model: str, payloads: Any, destination: Any, **kwargs: Any) -> None:
        super().__init__(destination=destination, **kwargs)
        self.model = model
        self.payloads = payloads
        self._check("model", lambda _, value: check_model(value))
        self._check("payloads", lambda _, value: check_payloads(value))

    @property
    def batch_model(self) -> str:
        """The model's slug."""
        return check_model(self.model)

    def inputs(self, destination: Destination) -> Inputs:  # noqa: ARG002
        """Return the payloads."""
        from airflow_provider_segmind.jobs.batch_plan import PayloadInputs
        from airflow_provider_segmind.jobs.descriptions import known_inputs

        template = NameTemplate(self.name_template)
        return PayloadInputs(self.batch_model, check_payloads(self.payloads), template, known_inputs)

    def describe_item(self, item: BatchItem, options: Mapping[str, Any]) -> JobDescription:
        """Return the job of one payload."""
        from airflow_provider_segmind.jobs.descriptions import describe_model_run

        return describe_model_run(self.batch_model, item.value, **options)

    def fingerprint(self) -> Sequence[object]:
        """Return nothing: each payload counts by itself."""
        return []
