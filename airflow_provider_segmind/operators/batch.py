"""The base of the batch operators: one task for thousands of inputs, in waves that no worker waits for."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segmind.api.models import Watch, check_choice, check_whole
from airflow_provider_segmind.exceptions import SegmindError, SegmindInputError, TaskFate
from airflow_provider_segmind.files.destination import Destination, IfExists, parse_destination
from airflow_provider_segmind.files.naming import DEFAULT_TEMPLATE, NameTemplate
from airflow_provider_segmind.operators.base import SegmindOperator
from airflow_provider_segmind.operators.parameters import check_conn_id, max_tries_of

if TYPE_CHECKING:  # what runs a batch is imported where it runs: Airflow parses DAG files all the time
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segmind.api.wave import WaveEvent
    from airflow_provider_segmind.hooks.segmind import SegmindHook
    from airflow_provider_segmind.jobs.batch import BatchRun
    from airflow_provider_segmind.jobs.batch_description import Summary, WaitForWave
    from airflow_provider_segmind.jobs.batch_plan import BatchItem, Inputs
    from airflow_provider_segmind.jobs.delivery import JobDescription

MAX_WAVE = 1000
"""Jobs in flight at most: a trigger with more would be larger than 64 KiB."""

WATCHERS = 8

FOLDER = "_segmind/"
"""Where a batch keeps its ledger, its state and its manifest, below the destination."""


class SegmindBatchOperator(SegmindOperator):
    """
    Run a job for each of many inputs, in waves; the base of the batch operators.

    A short worker part submits as many jobs as the rate limit allows and stores the results that are there, then
    defers to one trigger that watches them all. The next part begins when all have ended, or when more can be
    submitted. An input is never paid for twice: the batch keeps a ledger below its destination, which a retry, a clear
    and a new run read first.

    Returns a summary (XCom): ``total``, ``completed``, ``skipped``, ``failed``, ``blocked``, ``missing``, ``cost`` (US
    dollars), ``seconds``, ``requests`` and ``manifest``. The manifest, below the destination in
    ``_segmind/runs/<dag>/<run>/<task>/``, has a line of JSON for each input: ``source``, ``uri``, ``status``,
    ``request_id``, ``cost``, ``seconds`` and ``error``. ``failed.jsonl`` beside it has those that a later run can take
    as its list. While the task runs, the XCom ``progress`` has the counts so far. A batch without any input succeeds:
    a night without new photos is not an error.

    :param destination: a prefix, which ends in ``/``: ``s3://bucket/erased/``, a local folder or another object store
        (templated)
    :param name_template: how a result is named below the destination, from ``{folder}`` (of the source below the
        prefix that was listed), ``{stem}`` (the source's name without extension), ``{index}`` (its position, from 0)
        and ``{ext}`` (the result's extension; appended where it is left out)
    :param if_exists: ``"skip"``: an input whose result stands at the destination already, made from this very image
        with this model and these flags, is not submitted. ``"overwrite"``: all are
    :param max_wave: jobs in flight at most, up to 1000
    :param max_transfers: inputs that a worker part works on at the same time. Each takes a thread, and some megabytes
        of memory
    :param timeout: seconds or ``timedelta`` for each input, from its submit to its job's end
    :param max_failures: how many inputs may fail before the task fails at its end: a whole number, or a share of them
        between 0.0 and 1.0. Inputs that fail never stop the others
    :param max_cost: US dollars that the run may cost, all its tries together; ``None``: no limit. When the next job
        would exceed it, what is in flight is stored and the task fails
    :param watch: ``"status"`` asks for the state of each job. ``"history"`` reads the request history, where one
        request tells the state of a hundred jobs, and asks for the state of those that it does not show
    :param ledger: where the ledger is, if it is to be shared with other tasks; by default below the destination
        (templated)
    :param kwargs: the other parameters of :class:`~airflow_provider_segmind.operators.base.SegmindOperator`
    """

    def __init__(
        self,
        *,
        destination: Any,
        name_template: str = DEFAULT_TEMPLATE,
        if_exists: IfExists = "skip",
        max_wave: int = 500,
        max_transfers: int = 8,
        max_failures: int | float = 0,  # noqa: PYI041 - a count or a share, which are told apart by their type
        max_cost: float | None = None,
        watch: Watch = "status",
        **kwargs: Any,
    ) -> None:
        super().__init__(destination=destination, if_exists=if_exists, **kwargs)
        from airflow_provider_segmind.jobs.batch_budget import check_max_cost, check_max_failures

        check_choice("watch", watch, Watch)
        NameTemplate(name_template)
        self.name_template = name_template
        self.max_wave = check_whole("max_wave", max_wave, 1, MAX_WAVE)
        self.max_transfers = check_whole("max_transfers", max_transfers, 1, 64)
        self.max_failures = check_max_failures(max_failures)
        self.max_cost = None if max_cost is None else check_max_cost(max_cost)
        self.watch = watch
        self._check("destination", lambda _, value: check_prefix(value))

    @abstractmethod
    def inputs(self, destination: Destination) -> Inputs:
        """Return the inputs, from the rendered parameters."""

    @abstractmethod
    def describe_item(self, item: BatchItem, options: Mapping[str, Any]) -> JobDescription:
        """Return the job of one input; ``options`` are the fields that all jobs have in common."""

    @abstractmethod
    def fingerprint(self) -> Sequence[object]:
        """Return the parameters that make a batch another one, as plain JSON."""

    @property
    @abstractmethod
    def batch_model(self) -> str:
        """The model's slug."""

    def execute(self, context: Context) -> Summary:
        """Begin, or go on with what an earlier try has left. Chaos seam: delivered_to_end."""
        return self._work(context, None)

    def execute_complete(self, context: Context, event: Any = None) -> Summary:
        """Submit the next wave and store what has ended. Chaos seam: delivered_to_end."""
        return self._work(context, event)

    def _work(self, context: Context, event: Any) -> Summary:
        from airflow_provider_segmind.api.wave import WaveEvent
        from airflow_provider_segmind.hooks.segmind import SegmindHook

        check_conn_id("segmind_conn_id", self.segmind_conn_id)
        with _errors_for_airflow(), closing(SegmindHook(self.segmind_conn_id)) as hook:
            seen = None if event is None else WaveEvent.parse(event)
            while True:
                result = self._batch_run(context, hook, seen).work()
                if isinstance(result, dict):
                    return result
                if self.deferrable:
                    self._defer_to_wave(result)
                seen = self._watch_here(hook, result)

    def _batch_run(self, context: Context, hook: SegmindHook, event: WaveEvent | None) -> BatchRun:
        from airflow_provider_segmind.files.destination import existing_names
        from airflow_provider_segmind.files.documents import open_documents
        from airflow_provider_segmind.jobs.batch import BatchRun
        from airflow_provider_segmind.jobs.batch_description import BatchDescription
        from airflow_provider_segmind.jobs.batch_item import ItemWorker
        from airflow_provider_segmind.jobs.batch_submits import SUBMIT_WAIT
        from airflow_provider_segmind.jobs.ledger import consumer_of

        destination = check_prefix(self.destination)
        options = self.job_options()
        stored = {"aws_conn_id": self.aws_conn_id, "s3_extra_args": options["s3_extra_args"]}
        ti = context["ti"]
        ledger = self._open_ledger(hook, f"{destination.location.uri}{FOLDER}ledger/")
        assert ledger is not None, "it is below the destination if nowhere else"  # noqa: S101

        def describe(item: BatchItem, existing: Collection[str] | None) -> JobDescription:
            assert item.name is not None, "an item without a name is never described"  # noqa: S101
            named = destination.named(item.name, existing)
            in_batch = {"destination": named, "wait_here": False, "reconcile_later": True, "patience": SUBMIT_WAIT}
            return self.describe_item(item, {**options, **in_batch})

        description = BatchDescription(
            self.batch_model,
            self.inputs(destination),
            lambda most: existing_names(destination, aws_conn_id=self.aws_conn_id, most=most),
            _digest([self.batch_model, self.name_template, destination.location.place, *self.fingerprint()]),
            self.watch,
            self.timeout,
            self.poll_interval,
            self.max_wave,
            self.max_transfers,
            self.max_failures,
            self.max_cost,
            self.on_moderation_block == "fail",
        )
        consumer = consumer_of(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        worker = ItemWorker(describe, hook, ledger, consumer, max_tries_of(ti))
        return BatchRun(
            description,
            worker,
            open_documents(destination.location.below(f"{FOLDER}runs/{_run_folder(ti)}"), **stored),
            max_tries_of(ti),
            lambda progress: ti.xcom_push(key="progress", value=dict(progress)),
            event,
        )

    def _defer_to_wave(self, wave: WaitForWave) -> NoReturn:
        from airflow_provider_segmind.triggers.wave import SegmindWaveTrigger

        deadline = max((job.deadline for job in wave.jobs), default=wave.resume_at)
        trigger = SegmindWaveTrigger(
            [[job.request_id, job.submitted_at, job.deadline] for job in wave.jobs],
            self.batch_model,
            self.segmind_conn_id,
            self.timeout,
            resume_at=wave.resume_at,
            opens_at=wave.opens_at,
            leave_running=wave.leave_running,
            watch=self.watch,
            poll_interval=self.poll_interval,
            limiter=wave.limiter,
        )
        self._defer(trigger, deadline)

    def _watch_here(self, hook: SegmindHook, wave: WaitForWave) -> WaveEvent:
        """Watch a wave in this process, as the trigger does, in a few threads."""
        from concurrent.futures import ThreadPoolExecutor

        from airflow_provider_segmind.api.wave import Wave, WaveJob

        jobs = [WaveJob(job.request_id, job.submitted_at, job.deadline) for job in wave.jobs]
        watch = Wave(
            hook.api,
            self.batch_model,
            jobs,
            resume_at=wave.resume_at,
            opens_at=wave.opens_at,
            leave_running=wave.leave_running,
            watch=self.watch,
            poll_interval=self.poll_interval,
        )
        with ThreadPoolExecutor(WATCHERS, thread_name_prefix="segmind-watch") as pool:
            for watcher in [pool.submit(hook.run_operation, watch.watcher()) for _ in range(WATCHERS)]:
                watcher.result()
        return watch.event()


def check_prefix(value: object) -> Destination:
    """Return a batch's destination, a prefix."""
    destination = parse_destination(value)
    if not destination.is_prefix:
        raise SegmindInputError(
            f"{destination.location.where} is the name of one file, and a batch has many results. Write "
            f"{destination.location.label + '/'!r}, with a slash at its end."
        )
    return destination


def _run_folder(ti: Any) -> str:
    """Return where a task's run keeps its state: readable, and fit for any store."""
    mapped = f"-{ti.map_index}" if ti.map_index >= 0 else ""
    names = (ti.dag_id, ti.run_id, f"{ti.task_id}{mapped}")
    return "".join(name.replace("/", "_") + "/" for name in names)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def _errors_for_airflow() -> Iterator[None]:
    """Convert errors that a retry cannot fix into ``AirflowFailException``."""
    try:
        yield
    except AirflowFailException:
        raise
    except SegmindError as error:
        if error.policy.task is TaskFate.FAIL:
            raise AirflowFailException(str(error)) from error
        raise
