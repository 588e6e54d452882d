"""What the operators have in common: parameters that are checked as the DAG is parsed, and how a task defers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_segmind.api.models import DEFAULT_TIMEOUT, OnUnknownSubmit, check_choice, check_timeout
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.destination import IfExists, parse_destination
from airflow_provider_segmind.files.s3 import check_s3_extra_args
from airflow_provider_segmind.operators.parameters import (
    OnModerationBlock,
    check_conn_id,
    default_retry_policy,
    is_known_at_parse,
)

if TYPE_CHECKING:
    from airflow_provider_segmind.hooks.segmind import SegmindHook
    from airflow_provider_segmind.jobs.ledger import Ledger

DEFERRAL_MARGIN = timedelta(hours=1)
"""Airflow's own deferral timeout is this much later than our deadline, which the trigger keeps. It is for the case that
no triggerer runs at all."""


class SegmindOperator(BaseOperator):
    """
    The base of the operators that run jobs at Segmind and store their results.

    :param destination: ``s3://bucket/key``, a prefix that ends in ``/``, a local path or another object store
        (templated). ``None``: the file stays at Segmind, for 7 days
    :param if_exists: ``"skip"``: where the destination holds a result that was made from this very image, with this
        model and these flags, the task succeeds with its facts and nothing is submitted. ``"overwrite"`` replaces what
        is there, but at a prefix never the result of another image
    :param s3_extra_args: boto3's upload arguments for every object written, such as ``ServerSideEncryption``, ``ACL``,
        ``StorageClass`` or ``Tagging`` (templated). Of these, what concerns pictures, such as ``StorageClass``, does
        not apply to the ledger
    :param ledger: where paid jobs are remembered for all tasks, runs, DAGs and Airflows: a prefix such as
        ``s3://bucket/ledger/``, a folder that all workers see, or a prefix of another object store (templated). A job
        that is paid for and not delivered is then never bought again. ``None``: the connection's extra ``ledger``, or
        else Airflow's task state store (Airflow 3.3 and later)
    :param segmind_conn_id: the connection to Segmind (templated)
    :param aws_conn_id: the connection to S3, ``None`` for boto3's default credentials (templated)
    :param deferrable: wait on the triggerer instead of in the worker. On by default; the setting
        ``[operators] default_deferrable`` is not consulted
    :param timeout: seconds or ``timedelta`` from the first attempt to submit to the job's end, by the wall clock, waits
        for the rate limit included; 600 by default. Each retry gets as many, and goes on with the same job
    :param poll_interval: seconds or ``timedelta`` between polls; ``None``: a schedule shaped by how long the
        model's jobs take
    :param on_moderation_block: ``"fail"`` the task, or ``"skip"`` it
    :param on_unknown_submit: when a submit's response never came: ``"reconcile"`` looks the request up in Segmind's
        history, ``"fail"`` leaves it to you, ``"resubmit"`` pays again
    """

    template_fields: Sequence[str] = ("destination", "s3_extra_args", "ledger", "segmind_conn_id", "aws_conn_id")
    ui_color = "#e8defc"

    def __init__(
        self,
        *,
        destination: Any = None,
        if_exists: IfExists = "overwrite",
        s3_extra_args: Mapping[str, Any] | None = None,
        ledger: Any = None,
        segmind_conn_id: str = "segmind_default",
        aws_conn_id: str | None = "aws_default",
        deferrable: bool = True,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        poll_interval: float | timedelta | None = None,
        on_moderation_block: OnModerationBlock = "fail",
        on_unknown_submit: OnUnknownSubmit = "reconcile",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("on_moderation_block", on_moderation_block, OnModerationBlock)
        check_choice("on_unknown_submit", on_unknown_submit, OnUnknownSubmit)
        check_choice("if_exists", if_exists, IfExists)
        if not isinstance(deferrable, bool):
            raise SegmindInputError(f"Invalid deferrable {deferrable!r}. Use True (wait on the triggerer) or False.")
        if if_exists == "skip" and destination is None:
            raise SegmindInputError("if_exists='skip' needs a `destination` to look at. Give one, or omit if_exists.")
        self.destination = destination
        self.if_exists = if_exists
        self.s3_extra_args = s3_extra_args
        self.ledger = ledger
        self.segmind_conn_id = segmind_conn_id
        self.aws_conn_id = aws_conn_id
        self.deferrable = deferrable
        self.timeout = check_timeout(timeout)
        self.poll_interval = None if poll_interval is None else check_timeout(poll_interval, "poll_interval")
        self.on_moderation_block = on_moderation_block
        self.on_unknown_submit = on_unknown_submit
        self._check("segmind_conn_id", check_conn_id)
        self._check("aws_conn_id", check_conn_id, optional=True)
        self._check("destination", lambda _, value: parse_destination(value), optional=True)
        self._check("s3_extra_args", lambda _, value: check_s3_extra_args(value), optional=True)
        self._check("ledger", _check_ledger, optional=True)
        if getattr(self, "retry_policy", None) is None:
            # Set here, since kwargs.setdefault is lost under .expand().
            policy = default_retry_policy()
            if policy is not None:
                self.retry_policy = policy

    def _check(self, name: str, check: Callable[[str, Any], object], *, optional: bool = False) -> None:
        """Check a templated parameter as the DAG is parsed, where its value is known by then."""
        value = getattr(self, name)
        if is_known_at_parse(value) and not (optional and value is None):
            check(name, value)

    def job_options(self) -> dict[str, Any]:
        """Return the part of the job's description that all operators have in common."""
        return {
            "destination": None if self.destination is None else parse_destination(self.destination),
            "wait_here": not self.deferrable,
            "timeout": self.timeout,
            "poll_interval": self.poll_interval,
            "on_unknown_submit": self.on_unknown_submit,
            "if_exists": self.if_exists,
            "aws_conn_id": self.aws_conn_id,
            "s3_extra_args": check_s3_extra_args(self.s3_extra_args),
        }

    def _open_ledger(self, hook: SegmindHook, otherwise: str | None = None) -> Ledger | None:
        """Return the ledger that the operator or its connection names, else the one at ``otherwise``, if that is."""
        location = self.ledger if self.ledger is not None else hook.settings.ledger or otherwise
        if location is None:
            return None
        from airflow_provider_segmind.jobs.ledger import open_ledger

        extra_args = check_s3_extra_args(self.s3_extra_args)
        return open_ledger(location, aws_conn_id=self.aws_conn_id, s3_extra_args=extra_args)

    def _defer(self, trigger: Any, deadline: float | None) -> NoReturn:
        """Defer. Chaos seam: checkpoint_to_wait."""
        timeout = None if deadline is None else timedelta(seconds=max(deadline - time.time(), 0.0)) + DEFERRAL_MARGIN
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)
        raise AssertionError("defer() raises")


def _check_ledger(name: str, value: object) -> None:
    from airflow_provider_segmind.files.documents import parse_prefix

    parse_prefix(name, value)
