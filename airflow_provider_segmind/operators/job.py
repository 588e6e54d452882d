"""The base of the operators that run one job: its parameters, its parts on the worker, its deferrals."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseOperator

from airflow_provider_segmind.api.models import DEFAULT_TIMEOUT, OnUnknownSubmit, check_choice, check_timeout
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindInputError,
    SegmindModerationError,
    SegmindSubmitUnknownError,
    TaskFate,
)
from airflow_provider_segmind.files.destination import IfExists, parse_destination
from airflow_provider_segmind.files.documents import parse_prefix
from airflow_provider_segmind.files.s3 import check_s3_extra_args
from airflow_provider_segmind.operators.parameters import (
    OnModerationBlock,
    check_conn_id,
    default_retry_policy,
    is_known_at_parse,
)

if TYPE_CHECKING:  # what runs a job is imported where it runs: Airflow parses DAG files all the time
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segmind.hooks.segmind import SegmindHook
    from airflow_provider_segmind.jobs.checkpoint import CheckpointStore, ResumeEvent
    from airflow_provider_segmind.jobs.delivery import Facts, JobDescription
    from airflow_provider_segmind.jobs.ledger import LedgerCheckpoints
    from airflow_provider_segmind.jobs.run import JobRun, Wait, WaitForJob, WaitUntil

DEFERRAL_MARGIN = timedelta(hours=1)
"""Airflow's own deferral timeout is this much later than our deadline, which the trigger keeps. It is for the case that
no triggerer runs at all."""


class SegmindJobOperator(BaseOperator):
    """
    Run one job at Segmind and store its result; the base of the operators.

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
        self._check("ledger", parse_prefix, optional=True)
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

    @abstractmethod
    def describe_job(self) -> JobDescription:
        """Return what to run, from the rendered parameters; the values of :meth:`job_options` included."""

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

    def execute(self, context: Context) -> Facts:
        """Submit: get a job for the inputs, the one that an earlier try has paid for or a new one."""
        # Chaos seam: delivered_to_end
        with self._job_run(context, None) as run:
            return self._finish(run.submit(), run)

    def execute_complete(self, context: Context, event: Any = None) -> Facts:
        """Go on where the trigger left off: store the result, or submit where the rate limit left no slot before."""
        from airflow_provider_segmind.jobs.checkpoint import SUBMIT_AGAIN, ResumeEvent

        # Chaos seam: delivered_to_end
        with self._job_run(context, ResumeEvent.parse(event)) as run:
            if run.event.status == SUBMIT_AGAIN:
                return self._finish(run.submit(), run)
            return self._finish(run.store(run.event.outcome(), run.event.checkpoint), run)

    @contextmanager
    def _job_run(self, context: Context, event: ResumeEvent | None) -> Iterator[JobRun]:
        """Lend this process's part of the job, and tell Airflow what its errors mean."""
        from airflow_provider_segmind.hooks.segmind import SegmindHook
        from airflow_provider_segmind.jobs.checkpoint import TaskCheckpoints
        from airflow_provider_segmind.jobs.run import JobRun

        check_conn_id("segmind_conn_id", self.segmind_conn_id)
        max_tries = getattr(context["ti"], "max_tries", None)
        tries = max_tries if isinstance(max_tries, int) else None
        own = TaskCheckpoints(context.get("task_state_store"), tries)
        own.remember(event.checkpoint if event else None)
        with closing(SegmindHook(self.segmind_conn_id)) as hook:
            with self._errors_for_airflow(own):
                shared = self._open_ledger(context, hook, tries)
            checkpoints = shared or own
            with self._errors_for_airflow(checkpoints):
                yield JobRun(
                    self.describe_job(),
                    hook,
                    checkpoints,
                    lambda job: context["ti"].xcom_push(key="request_id", value=job.request_id),
                    event,
                )

    def _open_ledger(self, context: Context, hook: SegmindHook, tries: int | None) -> LedgerCheckpoints | None:
        """Return this task's view of the ledger, if the operator or its connection names one."""
        location = self.ledger if self.ledger is not None else hook.settings.ledger
        if location is None:
            return None
        from airflow_provider_segmind.jobs.ledger import consumer_of, open_ledger

        ledger = open_ledger(
            location, aws_conn_id=self.aws_conn_id, s3_extra_args=check_s3_extra_args(self.s3_extra_args)
        )
        ti = context["ti"]
        consumer = consumer_of(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        return ledger.checkpoints(consumer=consumer, max_tries=tries)

    def _finish(self, result: Facts | Wait, run: JobRun) -> Facts:
        """Return the facts, or defer to what there is to wait for."""
        from airflow_provider_segmind.jobs.run import WaitForJob

        if isinstance(result, dict):
            return result
        if isinstance(result, WaitForJob):
            return self._defer_to_job(result, run)
        return self._defer_until(result)

    def _defer_to_job(self, wait: WaitForJob, run: JobRun) -> NoReturn:
        from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger

        job = wait.job
        trigger = SegmindJobTrigger(
            job.request_id,
            job.model,
            self.segmind_conn_id,
            job.submitted_at,
            wait.deadline,
            self.poll_interval,
            checkpoint=wait.checkpoint.as_json(),
        )
        # Without a lasting checkpoint a timeout of Airflow's would end in a retry that pays again: then there is none.
        self._defer(trigger, wait.deadline if run.checkpoints.durable else None)

    def _defer_until(self, wait: WaitUntil) -> NoReturn:
        from airflow_provider_segmind.triggers.segmind import SegmindPauseTrigger

        conn_id = self.segmind_conn_id if wait.for_slot and wait.deadline is not None else None
        trigger = SegmindPauseTrigger(wait.moment, wait.event.as_json(), conn_id, wait.deadline)
        self._defer(trigger, wait.deadline)

    def _defer(self, trigger: Any, deadline: float | None) -> NoReturn:
        """Defer. Chaos seam: checkpoint_to_wait."""
        timeout = None if deadline is None else timedelta(seconds=max(deadline - time.time(), 0.0)) + DEFERRAL_MARGIN
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)
        raise AssertionError("defer() raises")

    @contextmanager
    def _errors_for_airflow(self, checkpoints: CheckpointStore) -> Iterator[None]:
        """
        Convert errors that a retry cannot fix into ``AirflowFailException``, and moderation blocks into a skip.

        Without a lasting checkpoint (before Airflow 3.3, without a ledger) a retry would not know of a job that may be
        paid for and submit another. Then no failure is retried.
        """
        try:
            yield
        except (AirflowFailException, AirflowSkipException):
            raise
        except Exception as error:
            if isinstance(error, SegmindModerationError) and self.on_moderation_block == "skip":
                raise AirflowSkipException(str(error)) from error
            checkpoint = None if checkpoints.durable else checkpoints.read()
            if checkpoint is not None:
                what = f"request {checkpoint.request_id}" if checkpoint.request_id else "the submit"
                raise AirflowFailException(
                    f"{error} The task is not retried: Airflow before 3.3 has no task state store, so a retry would "
                    f"not know of {what} and pay again. Segmind keeps a result's file for 7 days. With a `ledger`, "
                    "tasks are retried on every Airflow."
                ) from error
            left_to_user = isinstance(error, SegmindSubmitUnknownError) and self.on_unknown_submit == "fail"
            if left_to_user or (isinstance(error, SegmindError) and error.policy.task is TaskFate.FAIL):
                raise AirflowFailException(str(error)) from error
            raise
