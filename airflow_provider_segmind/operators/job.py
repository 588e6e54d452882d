"""The base of the operators that run one job: its parts on the worker, and what its errors mean to Airflow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindModerationError,
    SegmindSubmitUnknownError,
    TaskFate,
)
from airflow_provider_segmind.operators.base import SegmindOperator
from airflow_provider_segmind.operators.parameters import check_conn_id, max_tries_of

if TYPE_CHECKING:  # what runs a job is imported where it runs: Airflow parses DAG files all the time
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segmind.jobs.checkpoint import CheckpointStore, ResumeEvent
    from airflow_provider_segmind.jobs.delivery import Facts, JobDescription
    from airflow_provider_segmind.jobs.run import JobRun, Wait, WaitForJob, WaitUntil


class SegmindJobOperator(SegmindOperator):
    """Run one job at Segmind and store its result; the parameters are those of :class:`SegmindOperator`."""

    @abstractmethod
    def describe_job(self) -> JobDescription:
        """Return what to run, from the rendered parameters; the values of :meth:`job_options` included."""

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
        from airflow_provider_segmind.jobs.ledger import consumer_of

        ti, tries = context["ti"], max_tries_of(context["ti"])
        own = TaskCheckpoints(context.get("task_state_store"), tries)
        own.remember(event.checkpoint if event else None)
        with closing(SegmindHook(self.segmind_conn_id)) as hook:
            with self._errors_for_airflow(own):
                ledger = self._open_ledger(hook)
            consumer = consumer_of(ti.dag_id, ti.run_id, ti.task_id, ti.map_index) if ledger else ""
            checkpoints = ledger.checkpoints(consumer=consumer, max_tries=tries) if ledger else own
            with self._errors_for_airflow(checkpoints):
                yield JobRun(
                    self.describe_job(),
                    hook,
                    checkpoints,
                    lambda job: ti.xcom_push(key="request_id", value=job.request_id),
                    event,
                )

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
