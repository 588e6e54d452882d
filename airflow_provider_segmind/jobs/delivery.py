"""What a job is for: its description, what stands at its destination already, and how its result gets there."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from airflow_provider_segmind.api.download import download, public_outputs
from airflow_provider_segmind.api.history import get_record
from airflow_provider_segmind.api.models import (
    DEFAULT_TIMEOUT,
    JobOutcome,
    OnUnknownSubmit,
    OutcomeStatus,
    SegmindFile,
    SegmindResult,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.destination import (
    Destination,
    IfExists,
    check_destination,
    find_stored,
    refuse_same_place,
    store,
)
from airflow_provider_segmind.files.formats import ResultFile, extension_of
from airflow_provider_segmind.files.location import Location
from airflow_provider_segmind.files.provenance import Provenance, StoredResult, refuse_other_image
from airflow_provider_segmind.files.source import ImageFacts, ImageSource
from airflow_provider_segmind.jobs.acquire import Submission
from airflow_provider_segmind.jobs.checkpoint import Checkpoint

Upload = Callable[[bytes], str]
Fetch = Callable[[Operation[None]], None]
T = TypeVar("T")
Facts = dict[str, Any]

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

    :param inputs: what the job is known by: the inputs as the DAG gives them, without signatures
    :param build_payload: returns what is posted. It gets a function that uploads bytes to Segmind's storage, one that
        runs the operation which fetches an image, the seconds for which addresses in the payload must stay valid, and
        what ``inspect`` returned
    :param inspect: reads what tells the image from one that replaces it, and its size; called before each submit
    :param source: the image that the job is about, if it is about one
    :param destination: where the result goes, ``None``: it stays at Segmind for 7 days
    :param result_must_be_image: refuse a result that is not an image, whatever the service declares
    :param wait_here: wait in this process; else return what the triggerer has to wait for
    :param timeout: seconds from the first attempt to submit to the job's end
    :param reconcile_later: leave a submit of unknown outcome for some minutes instead of searching the history at once
    """

    model: str
    inputs: Mapping[str, Any]
    build_payload: Callable[[Upload, Fetch, float, ImageFacts], Mapping[str, Any]]
    inspect: Callable[[], ImageFacts]
    source: ImageSource | None = None
    destination: Destination | None = None
    result_must_be_image: bool = False
    wait_here: bool = True
    timeout: float = DEFAULT_TIMEOUT
    poll_interval: float | None = None
    on_unknown_submit: OnUnknownSubmit = "reconcile"
    reconcile_later: bool = False
    if_exists: IfExists = "overwrite"
    aws_conn_id: str | None = None
    s3_extra_args: Mapping[str, Any] | None = None


class Delivery:
    """The result's side of a job."""

    def __init__(self, description: JobDescription, runner: OperationRunner) -> None:
        self.description = description
        self.runner = runner

    @cached_property
    def name(self) -> str | None:
        """The name of the result at a prefix; ``None``: the request id, since the job is not about one source."""
        source = self.description.source
        return None if source is None else source.stem or source.digest[:16]

    @property
    def is_listed(self) -> bool:
        """Whether a listing has told what is stored, as in a batch: a look there is then cheaper than one elsewhere."""
        return self.description.destination is not None and self.description.destination.existing is not None

    def forget_listing(self) -> None:
        """Look at the destination itself: another task may have stored the result since it was listed."""
        if self.is_listed:
            destination = replace(cast(Destination, self.description.destination), existing=None)
            self.description = replace(self.description, destination=destination)
            self.__dict__.pop("stored", None)

    @cached_property
    def stored(self) -> StoredResult | None:
        """What stands where the result is to go. A result that is named by its request id replaces nothing."""
        destination = self.description.destination
        if destination is None or (destination.needs_stem and self.name is None):
            return None
        must_see = self.description.if_exists == "skip"
        return find_stored(destination, self.name, aws_conn_id=self.description.aws_conn_id, must_see=must_see)

    def already_made(self, submission: Submission) -> StoredResult | None:
        """Return a stored result that was made from this very image, with this model and these flags."""
        if self.description.if_exists != "skip" or self.stored is None or self.stored.provenance is None:
            return None
        wanted = content_digest(submission.input_digest, submission.image_identity)
        return self.stored if self.stored.provenance.input_digest == wanted else None

    def check(self, submission_digest: str) -> None:
        """Refuse a destination that cannot take the result, before anything is paid for."""
        destination, source = self.description.destination, self.description.source
        if destination is None:
            return
        self._locate(".png", self.description.model)
        if not self.is_listed:
            check_destination(destination, aws_conn_id=self.description.aws_conn_id)
        if destination.is_prefix and source is not None:
            planned = Provenance("", self.description.model, source.label, source.digest, submission_digest, "")
            refuse_other_image(self.stored, planned)

    def _locate(self, extension: str, request_id: str) -> Location:
        destination, source = cast(Destination, self.description.destination), self.description.source
        location = destination.locate(stem=self.name or request_id, extension=extension)
        if source is not None:
            refuse_same_place(source, location)
        return location

    def deliver(self, outcome: JobOutcome, checkpoint: Checkpoint | None) -> Facts:
        """Store the result of a completed job and return the facts."""
        result = cast(SegmindResult, outcome.result)
        if len(result.outputs) > 1:
            log.warning(
                "Request %s has %d outputs. The first is stored; 'output_urls' names them all.",
                outcome.request_id,
                len(result.outputs),
            )
        size = (checkpoint.image_width, checkpoint.image_height) if checkpoint else (None, None)
        if self.description.destination is None:
            facts = self._facts(outcome, size)
            return facts if facts["output_url"] else facts | self._recorded_addresses(outcome)
        location, file = self._fetch_and_store(result, checkpoint)
        log.info("Stored %s (%d bytes, %s).", location.label, file.size, file.content_type)
        facts = self._facts(outcome, size, location, file)
        _warn_of_fewer_pixels(facts)
        return facts

    def _facts(
        self,
        outcome: JobOutcome,
        image_size: tuple[int | None, int | None],
        location: Location | None = None,
        file: SegmindFile | None = None,
    ) -> Facts:
        """Return what the task returns; without a file where the result stays at Segmind."""
        source = self.description.source
        output_urls = public_outputs(self.runner.api, outcome.result) if outcome.result else ()
        return {
            "request_id": outcome.request_id,
            "model": self.description.model,
            "status": outcome.status.value,
            **({"image": source.label} if source else {}),
            "output_url": output_urls[0] if output_urls else None,
            "output_urls": list(output_urls),
            "uri": location.uri if location else None,
            **{name: getattr(file, name, None) for name in ("content_type", "size", "sha256", "width", "height")},
            "image_width": image_size[0],
            "image_height": image_size[1],
            "metrics": outcome.metrics.as_dict(),
        }

    def _fetch_and_store(self, result: SegmindResult, checkpoint: Checkpoint | None) -> tuple[Location, SegmindFile]:
        """Stream the first output through a temporary file, which has no name and so never stays behind."""
        description, source = self.description, self.description.source
        destination = cast(Destination, description.destination)
        try:
            with tempfile.TemporaryFile(prefix="segmind-") as unnamed:
                spool = cast(BinaryIO, unnamed)
                file = self._download(result, spool)
                location = self._locate(extension_of(file.content_type), result.request_id)
                made_from = Provenance(
                    result.request_id,
                    description.model,
                    source.label if source else None,
                    source.digest if source else "none",
                    content_digest(checkpoint.input_digest, checkpoint.image_identity) if checkpoint else "",
                    file.sha256,
                    file.width,
                    file.height,
                )
                # Chaos seam: mid_upload
                store(
                    spool,
                    location,
                    content_type=file.content_type,
                    provenance=made_from,
                    aws_conn_id=description.aws_conn_id,
                    s3_extra_args=description.s3_extra_args,
                    derived=destination.is_prefix and source is not None,
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

    def facts_of_stored(self, stored: StoredResult, submission: Submission) -> Facts:
        """Return the facts of a result that an earlier run has stored."""
        made = cast(Provenance, stored.provenance)
        log.info("%s was made of this image by request %s; skipped.", stored.location.label, made.request_id)
        file = SegmindFile(stored.size, made.sha256, stored.content_type or "", made.width, made.height)
        outcome = JobOutcome(made.request_id, OutcomeStatus.COMPLETED)
        return self._facts(outcome, submission.image_size, stored.location, file)


def content_digest(input_digest: str, image_identity: str | None) -> str:
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
