"""What every Segmind operator is: its parameters, checked as the DAG is parsed. The work is in ``legs.py``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_segmind.api.models import DEFAULT_TIMEOUT, OnUnknownSubmit, check_choice, check_timeout
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.destination import parse_destination
from airflow_provider_segmind.operators.retries import default_retry_policy, told_to_airflow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segmind.files.source import ImageSource

OnModerationBlock = Literal["fail", "skip"]
Upload = Callable[[bytes], str]


def known_at_parse(value: object) -> bool:
    """Whether a value can be checked as the DAG is parsed: it holds no template and no other task's result."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(map(known_at_parse, (*value, *value.values())))
    if isinstance(value, list | tuple | set):
        return all(map(known_at_parse, value))
    return not hasattr(value, "iter_references")  # of an XComArg and its like


class SegmindJobOperator(BaseOperator):
    """
    Run one job at Segmind and store its result; the base of the operators.

    :param destination: ``s3://bucket/key``, a prefix that ends in ``/``, a local path or another object store;
        ``None``: the file stays at Segmind, for 7 days
    :param segmind_conn_id: the connection to Segmind
    :param aws_conn_id: the connection to S3, ``None`` for boto's own chain of credentials
    :param deferrable: wait on the triggerer instead of in the worker. On by default; the setting
        ``[operators] default_deferrable`` is not consulted
    :param timeout: seconds from the first attempt to submit to the job's end, by the wall clock, waits at a rate limit
        included; each Airflow retry gets as many anew, and goes on with the same job
    :param poll_interval: seconds between two looks, ``None``: shaped by how long the model's jobs take
    :param on_moderation_block: ``"fail"`` the task, or ``"skip"`` it
    :param on_unknown_submit: when a submit's answer never came: ``"reconcile"`` looks the request up in Segmind's
        history, ``"fail"`` leaves it to you, ``"resubmit"`` pays again
    """

    ui_color = "#e8defc"

    def __init__(
        self,
        *,
        destination: Any = None,
        segmind_conn_id: str = "segmind_default",
        aws_conn_id: str | None = "aws_default",
        deferrable: bool = True,
        timeout: float = DEFAULT_TIMEOUT,
        poll_interval: float | None = None,
        on_moderation_block: OnModerationBlock = "fail",
        on_unknown_submit: OnUnknownSubmit = "reconcile",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_timeout(timeout)
        if poll_interval is not None:
            check_timeout(poll_interval, "poll_interval")
        check_choice("on_moderation_block", on_moderation_block, OnModerationBlock)
        check_choice("on_unknown_submit", on_unknown_submit, OnUnknownSubmit)
        if not isinstance(deferrable, bool):
            raise SegmindInputError(f"deferrable={deferrable!r}: give True (wait on the triggerer) or False.")
        _check_conn_id("segmind_conn_id", segmind_conn_id)
        if aws_conn_id is not None:
            _check_conn_id("aws_conn_id", aws_conn_id)
        if destination is not None and known_at_parse(destination):
            parse_destination(destination)
        self.destination = destination
        self.segmind_conn_id = segmind_conn_id
        self.aws_conn_id = aws_conn_id
        self.deferrable = deferrable
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.on_moderation_block = on_moderation_block
        self.on_unknown_submit = on_unknown_submit
        if getattr(self, "retry_policy", None) is None:
            # Here and not by kwargs.setdefault, which is lost under .expand().
            policy = default_retry_policy()
            if policy is not None:
                self.retry_policy = policy

    # ------------------------------------------------------------------ what an operator says of itself

    @abstractmethod
    def job_model(self) -> str:
        """Return the model's slug."""

    @abstractmethod
    def job_inputs(self) -> Mapping[str, Any]:
        """Return what the job is known by: the inputs as the DAG gives them, checked, without signatures; no IO."""

    @abstractmethod
    def job_payload(self, upload: Upload, valid_for: float) -> Mapping[str, Any]:
        """
        Return what is posted; called only where a POST follows.

        :param upload: stores a file at Segmind and returns its address
        :param valid_for: seconds for which addresses in it must stay good
        """

    def job_source(self) -> ImageSource | None:
        """Return the image that the job is about, ``None`` where it is about none."""
        return None

    must_be_image = False

    # ------------------------------------------------------------------ the two worker legs

    def execute(self, context: Context) -> dict[str, Any]:
        """Get a job for the inputs: the one that an earlier try has paid for, or a new one."""
        from airflow_provider_segmind.jobs.run import begin

        with self._told_to_airflow():
            return begin(self, context)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on where the trigger left off."""
        from airflow_provider_segmind.jobs.run import resume

        with self._told_to_airflow():
            return resume(self, context, event)

    def _told_to_airflow(self) -> Any:
        return told_to_airflow(
            skip_moderated=self.on_moderation_block == "skip", fail_unknown=self.on_unknown_submit == "fail"
        )


def _check_conn_id(name: str, conn_id: object) -> None:
    if not isinstance(conn_id, str) or not conn_id:
        raise SegmindInputError(f"{name}={conn_id!r}: give a connection's id.")
