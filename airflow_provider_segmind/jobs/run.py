"""
One job from its description to its stored result, in the parts that a worker runs: *submit* and *store*.

Between the two a job is waited for, on the triggerer or here. A part that has to wait on the triggerer returns what to
wait for, so nothing in here knows Airflow, and one image's work can be called without a task instance.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, Literal, Protocol, TypeVar, cast

from airflow_provider_segmind.api.download import download, public_outputs
from airflow_provider_segmind.api.gateway import upload
from airflow_provider_segmind.api.history import get_record
from airflow_provider_segmind.api.models import (
    DEFAULT_TIMEOUT,
    JobOutcome,
    JobState,
    OnUnknownSubmit,
    OutcomeStatus,
    SegmindFile,
    SegmindJob,
    SegmindResult,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation, pause
from airflow_provider_segmind.api.polling import watch
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindInputError,
    SegmindJobTimeoutError,
    SegmindRateLimitError,
    SegmindStorageError,
)
from airflow_provider_segmind.files.destination import (
    Destination,
    Provenance,
    StoredResult,
    check_destination,
    find_stored,
    refuse_other_image,
    refuse_same_place,
    store,
)
from airflow_provider_segmind.files.formats import ResultFile, extension_of
from airflow_provider_segmind.files.location import Location
from airflow_provider_segmind.files.source import ImageFacts, ImageSource, data_uri
from airflow_provider_segmind.jobs.acquire import AcquiredJob, Submission, acquire_job, collect
from airflow_provider_segmind.jobs.checkpoint import (
    SUBMIT_AGAIN,
    Checkpoint,
    ResumeEvent,
    TaskCheckpoints,
    input_digest,
)

IfExists = Literal["overwrite", "skip"]
Upload = Callable[[bytes], str]
T = TypeVar("T")

MAX_STORE_ATTEMPTS = 10
STORE_RETRY_SECONDS = 30.0
"""Where no checkpoint lasts, storing a result is tried this often: first after these seconds, then after twice as many
each time, over about an hour in all."""

PRESIGNED_MARGIN = 3600.0
"""Seconds past the deadline for which a presigned source stays valid: Segmind reads it when the job runs."""

SMALLER = 0.9
"""A result with a smaller share of its source's pixels than this is warned of. Whether the model keeps the resolution
is contradictory: Bria says so, another vendor of the same endpoint says about one megapixel."""

log = logging.getLogger(__name__)


class OperationRunner(Protocol):
    """What runs operations: a :class:`~airflow_provider_segmind.hooks.segmind.SegmindHook`."""

    @property
    def api(self) -> ApiContext:
        """The connection's API context."""

    def run_operation(self, operation: Operation[T]) -> T:
        """Run an operation to its end."""


@dataclass(frozen=True)
class JobDescription:
    """
    What to run and what to do with the result; an operator's parameters, parsed.

    :param model: the model's slug
    :param inputs: what the job is known by: the inputs as the DAG gives them, without signatures
    :param build_payload: returns what is posted. It gets a function that uploads bytes to Segmind's storage, the seconds
        for which addresses in the payload must stay valid, and what ``inspect`` returned
    :param inspect: reads what tells the image from one that replaces it, and its size; called before each submit
    :param source: the image that the job is about, if it is about one
    :param destination: where the result goes, ``None``: it stays at Segmind for 7 days
    :param result_must_be_image: refuse a result that is not an image, whatever the service declares
    :param wait_here: wait in this process; else return what the triggerer has to wait for
    :param timeout: seconds from the first attempt to submit to the job's end
    """

    model: str
    inputs: Mapping[str, Any]
    build_payload: Callable[[Upload, float, ImageFacts], Mapping[str, Any]]
    inspect: Callable[[], ImageFacts]
    source: ImageSource | None = None
    destination: Destination | None = None
    result_must_be_image: bool = False
    wait_here: bool = True
    timeout: float = DEFAULT_TIMEOUT
    poll_interval: float | None = None
    on_unknown_submit: OnUnknownSubmit = "reconcile"
    if_exists: IfExists = "overwrite"
    aws_conn_id: str | None = None
    s3_extra_args: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class WaitForJob:
    """The job is submitted: wait for its end."""

    job: SegmindJob
    deadline: float
    checkpoint: Checkpoint


@dataclass(frozen=True)
class WaitUntil:
    """
    Wait until a moment, then go on with an event.

    :param moment: epoch seconds
    :param deadline: epoch seconds by which a submit must have succeeded; ``None`` where the result is to be stored
    """

    moment: float
    event: ResumeEvent
    deadline: float | None = None


Facts = dict[str, Any]
Wait = WaitForJob | WaitUntil


class JobRun:
    """
    One worker process's part of a job.

    :param on_submitted: called with the job as soon as it is known
    :param event: what the process was resumed with, ``None`` at the start of a try
    """

    def __init__(
        self,
        description: JobDescription,
        runner: OperationRunner,
        checkpoints: TaskCheckpoints,
        on_submitted: Callable[[SegmindJob], None] = lambda job: None,
        event: ResumeEvent | None = None,
    ) -> None:
        self.description = description
        self.runner = runner
        self.checkpoints = checkpoints
        self.on_submitted = on_submitted
        self.event = event or ResumeEvent(SUBMIT_AGAIN)
        self.uploaded_url = self.event.uploaded_url
        checkpoints.remember(self.event.checkpoint)

    # ------------------------------------------------------------------ submit

    def submit(self) -> Facts | Wait:
        """
        Get a job for the inputs, the one that an earlier try has paid for or a new one.

        :return: the facts where the result is stored already, else what to wait for. Chaos seam: checkpoint_to_wait
        """
        description = self.description
        deadline = self.event.deadline or time.time() + description.timeout
        checkpoint = self.checkpoints.read()
        submission = self._submission(checkpoint, deadline)
        if not submission.matches(checkpoint):
            checkpoint = None
            if (stored := self._already_made(submission)) is not None:
                return self._facts_of_stored(stored, submission)
        waits = self.event.submit_waits
        while True:
            try:
                operation = acquire_job(self.runner.api, self.checkpoints, submission, checkpoint)
                acquired = self.runner.run_operation(operation)
                break
            except SegmindRateLimitError as limited:
                # Where the reset that Segmind names proves too early time and again, the waits grow all the same.
                moment = max(limited.reset_at, time.time() + min(2.0**waits, 60.0) if waits else 0.0)
                waits += 1
                checkpoint = self.checkpoints.read() if checkpoint is None else checkpoint
                self._refuse_to_wait_past(deadline, moment, limited, checkpoint)
                log.info("%s Waiting for a slot.", limited)
                if not description.wait_here:
                    event = ResumeEvent(
                        SUBMIT_AGAIN,
                        deadline=deadline,
                        submit_waits=waits,
                        uploaded_url=self.uploaded_url,
                        checkpoint=None if self.checkpoints.durable else checkpoint,
                    )
                    return WaitUntil(moment, event, deadline)
                self._wait_for_slot(moment, deadline)
        self.on_submitted(acquired.job)
        if acquired.outcome is not None:
            return self.store(acquired.outcome, acquired.checkpoint)
        if not description.wait_here:
            return WaitForJob(acquired.job, deadline, acquired.checkpoint)
        return self.store(self._wait_for_end(acquired, deadline), acquired.checkpoint)

    def _submission(self, checkpoint: Checkpoint | None, deadline: float) -> Submission:
        """
        Look at the image as it is now and describe the job to submit.

        An image that cannot be read does not stop a job that is paid for: it may have been moved away since.
        """
        description = self.description
        digest = input_digest(description.model, description.inputs)
        unreadable = None
        try:
            facts = description.inspect()
        except (SegmindInputError, SegmindStorageError) as error:
            if checkpoint is None or checkpoint.input_digest != digest:
                raise
            facts, unreadable = ImageFacts("", None, None), error

        def build_payload() -> Mapping[str, Any]:
            if unreadable is not None:
                raise unreadable
            self._check_destination(_content_digest(digest, facts.identity))
            return description.build_payload(self._upload, deadline - time.time() + PRESIGNED_MARGIN, facts)

        return Submission(
            description.model,
            digest,
            build_payload,
            facts.identity or None,
            (facts.width, facts.height),
            description.on_unknown_submit,
            deadline,
        )

    def _upload(self, image: bytes) -> str:
        """Upload once, however often the submit waits for a slot: files in Segmind's storage cannot be deleted."""
        if self.uploaded_url is None:
            self.uploaded_url = self.runner.run_operation(upload(self.runner.api, data_uri(image)))
        return self.uploaded_url

    def _refuse_to_wait_past(
        self, deadline: float, moment: float, limited: SegmindRateLimitError, checkpoint: Checkpoint | None
    ) -> None:
        if moment < deadline:
            return
        timeout = self.description.timeout
        if checkpoint is not None and checkpoint.request_id is not None:
            raise SegmindJobTimeoutError(
                f"The rate limit left no slot within timeout={timeout:g} s to ask about request "
                f"{checkpoint.request_id}: {limited} The job is paid for, and a retry goes on with it.",
                request_id=checkpoint.request_id,
            ) from limited
        raise SegmindRateLimitError(
            f"Nothing was submitted within timeout={timeout:g} s, since the rate limit left no slot: {limited} Raise "
            "`timeout`, or run fewer of these tasks at a time (a pool).",
            reset_at=limited.reset_at,
        ) from limited

    def _wait_for_slot(self, moment: float, deadline: float) -> None:
        now = time.time()
        free = max(self.runner.api.limiter.next_free(now), moment)
        self.runner.run_operation(pause(min(free, deadline) - now + 0.01))

    def _wait_for_end(self, acquired: AcquiredJob, deadline: float) -> JobOutcome:
        """Wait for a job in this process. Chaos seam: while_waiting."""
        job = acquired.job
        return self.runner.run_operation(
            watch(
                self.runner.api,
                job.request_id,
                job.model,
                submitted_at=job.submitted_at,
                deadline=deadline,
                poll_interval=self.description.poll_interval,
            )
        )

    # ------------------------------------------------------------------ what the destination holds already

    @cached_property
    def _name(self) -> str | None:
        """The name of the result at a prefix; ``None``: the request id, since the job is not about one source."""
        source = self.description.source
        return None if source is None else source.stem or source.digest[:16]

    @cached_property
    def _stored(self) -> StoredResult | None:
        """What stands where the result is to go. A result that is named by its request id replaces nothing."""
        destination = self.description.destination
        if destination is None or (destination.is_prefix and self._name is None):
            return None
        return find_stored(destination, self._name, aws_conn_id=self.description.aws_conn_id)

    def _already_made(self, submission: Submission) -> StoredResult | None:
        """Return a stored result that was made from this very image, with this model and these flags."""
        if self.description.if_exists != "skip" or self._stored is None or self._stored.provenance is None:
            return None
        wanted = _content_digest(submission.input_digest, submission.image_identity)
        return self._stored if self._stored.provenance.input_digest == wanted else None

    def _check_destination(self, submission_digest: str) -> None:
        """Refuse a destination that cannot take the result, before anything is paid for."""
        destination, source = self.description.destination, self.description.source
        if destination is None:
            return
        self._locate(".png", self.description.model)
        check_destination(destination, aws_conn_id=self.description.aws_conn_id)
        if destination.is_prefix and source is not None:
            refuse_other_image(
                self._stored, source=source.label, source_digest=source.digest, input_digest=submission_digest
            )

    def _locate(self, extension: str, request_id: str) -> Location:
        destination, source = cast(Destination, self.description.destination), self.description.source
        location = destination.locate(stem=self._name or request_id, extension=extension)
        if source is not None:
            refuse_same_place(source, location)
        return location

    # ------------------------------------------------------------------ store

    def store(self, outcome: JobOutcome, checkpoint: Checkpoint | None) -> Facts | Wait:
        """Store what a job gave, or raise what became of it. The checkpoint stays until the result is stored."""
        if checkpoint is None:
            checkpoint = self.checkpoints.read()
        attempts = self.event.store_attempts
        while True:
            try:
                outcome = self.runner.run_operation(collect(self.runner.api, self.checkpoints, outcome, checkpoint))
                facts = self._store_result(outcome, checkpoint)
                break
            except SegmindError as error:
                # A retry finds a lasting checkpoint and pays nothing. Without one, a retry would pay again.
                is_left = self.checkpoints.durable or self.checkpoints.read() is None
                if is_left or not error.policy.may_recover or attempts == MAX_STORE_ATTEMPTS:
                    raise
                moment = time.time() + min(STORE_RETRY_SECONDS * 2**attempts, 600.0)
                attempts += 1
                log.warning("%s Trying again later (%d of %d).", error, attempts, MAX_STORE_ATTEMPTS)
                if not self.description.wait_here:
                    return WaitUntil(moment, ResumeEvent.of(outcome, checkpoint, store_attempts=attempts))
                self.runner.run_operation(pause(moment - time.time()))
        self.checkpoints.mark_delivered(checkpoint)
        return facts

    def _store_result(self, outcome: JobOutcome, checkpoint: Checkpoint | None) -> Facts:
        result = cast(SegmindResult, outcome.result)
        facts = self._facts(outcome, checkpoint)
        if len(result.outputs) > 1:
            log.warning(
                "Request %s has %d outputs. The first is stored; 'output_urls' names them all.",
                outcome.request_id,
                len(result.outputs),
            )
        if self.description.destination is None:
            return facts if facts["output_url"] else facts | self._recorded_addresses(outcome)
        location, file = self._fetch_and_store(result, checkpoint)
        log.info("Stored %s (%d bytes, %s).", location.label, file.size, file.content_type)
        facts |= {
            "uri": location.uri,
            "content_type": file.content_type,
            "size": file.size,
            "sha256": file.sha256,
            "width": file.width,
            "height": file.height,
        }
        _warn_of_fewer_pixels(facts)
        return facts

    def _facts(self, outcome: JobOutcome, checkpoint: Checkpoint | None) -> Facts:
        source, result = self.description.source, cast(SegmindResult, outcome.result)
        output_urls = public_outputs(self.runner.api, result)
        return {
            "request_id": outcome.request_id,
            "model": self.description.model,
            "status": outcome.status.value,
            **({"image": source.label} if source else {}),
            "output_url": output_urls[0] if output_urls else None,
            "output_urls": list(output_urls),
            **dict.fromkeys(("uri", "content_type", "size", "sha256", "width", "height")),
            "image_width": checkpoint.image_width if checkpoint else None,
            "image_height": checkpoint.image_height if checkpoint else None,
            "metrics": outcome.metrics.as_dict(),
        }

    def _fetch_and_store(
        self, result: SegmindResult, checkpoint: Checkpoint | None
    ) -> tuple[Location, SegmindFile]:
        """Stream the first output through a temporary file, which has no name and so never stays behind."""
        description, source = self.description, self.description.source
        try:
            with tempfile.TemporaryFile(prefix="segmind-") as unnamed:
                spool = cast(BinaryIO, unnamed)
                file = self._download(result, spool)
                location = self._locate(extension_of(file.content_type), result.request_id)
                provenance = Provenance(
                    request_id=result.request_id,
                    model=description.model,
                    source=source.label if source else None,
                    source_digest=source.digest if source else "",
                    input_digest=_content_digest(checkpoint.input_digest, checkpoint.image_identity) if checkpoint else "",
                    sha256=file.sha256,
                    width=file.width,
                    height=file.height,
                )
                store(
                    spool,
                    location,
                    content_type=file.content_type,
                    provenance=provenance,
                    aws_conn_id=description.aws_conn_id,
                    s3_extra_args=description.s3_extra_args,
                    derived=cast(Destination, description.destination).is_prefix and source is not None,
                )
        except OSError as full:
            raise SegmindStorageError(f"The worker's temporary folder failed ({full.strerror or full}).") from full
        return location, file

    def _download(self, result: SegmindResult, spool: BinaryIO) -> SegmindFile:
        """Fetch the first output. Chaos seam: mid_download."""
        api = self.runner.api
        sink = ResultFile(spool, max_bytes=api.max_result_bytes, image=self.description.result_must_be_image)
        return self.runner.run_operation(download(api, result, sink))

    def _recorded_addresses(self, outcome: JobOutcome) -> Facts:
        """Ask the history for a public address of a result that is inline or signed and has no destination."""
        record = self.runner.run_operation(get_record(self.runner.api, outcome.request_id))
        output_urls = public_outputs(self.runner.api, record.as_result()) if record else ()
        if not output_urls:
            raise SegmindInputError(
                f"destination=None leaves the result at Segmind, but the result of request {outcome.request_id} has no "
                "public address there. Give a `destination` and clear the task; nothing is paid again.",
                request_id=outcome.request_id,
            )
        return {"output_url": output_urls[0], "output_urls": list(output_urls)}

    def _facts_of_stored(self, stored: StoredResult, submission: Submission) -> Facts:
        """Return the facts of a result that an earlier run has stored."""
        made = cast(Provenance, stored.provenance)
        log.info("%s was made from this image by request %s. Nothing is submitted.", stored.location.label, made.request_id)
        result = SegmindResult(made.request_id, JobState.COMPLETED)
        outcome = JobOutcome(made.request_id, OutcomeStatus.COMPLETED, result=result)
        width, height = submission.image_size
        return self._facts(outcome, None) | {
            "uri": stored.location.uri,
            "content_type": stored.content_type,
            "size": stored.size,
            "sha256": made.sha256,
            "width": made.width,
            "height": made.height,
            "image_width": width,
            "image_height": height,
        }


def _content_digest(input_digest: str, image_identity: str | None) -> str:
    """Return what a result is made from: the inputs, and the image's own identity."""
    return hashlib.sha256(f"{input_digest} {image_identity or ''}".encode()).hexdigest()


def _warn_of_fewer_pixels(facts: Facts) -> None:
    before, after = (facts["image_width"], facts["image_height"]), (facts["width"], facts["height"])
    if None not in before and None not in after and after[0] * after[1] < SMALLER * before[0] * before[1]:
        log.warning(
            "The result of request %s has fewer pixels than its source: %d x %d instead of %d x %d.",
            facts["request_id"],
            *after,
            *before,
        )
