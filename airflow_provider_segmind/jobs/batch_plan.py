"""The plan of a batch: its inputs in order, each with its key and its result's name, checked before the first POST."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from airflow_provider_segmind.api.models import parse_json
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindCheckpointError, SegmindInputError
from airflow_provider_segmind.files.destination import RESULT_EXTENSIONS, Destination
from airflow_provider_segmind.files.documents import DocumentStore
from airflow_provider_segmind.files.listing import ListedImage, is_fixed_list, list_images, refuse_listed_result
from airflow_provider_segmind.files.location import public, quoted, without_query
from airflow_provider_segmind.files.naming import NameTemplate, ResultName, find_name_conflicts
from airflow_provider_segmind.files.source import parse_image
from airflow_provider_segmind.jobs.checkpoint import input_digest

PLAN, EXISTING = "inputs.jsonl", "existing.json"
MOST_LISTED, MOST_LISTED_EACH = 10_000, 20
"""A destination with more files than this, and this for each input, is not listed: it would take longer than to ask for
the result of each input."""

_LONGEST_LABEL = 1100  # an S3 key has at most 1024 bytes


@dataclass(frozen=True, slots=True)
class BatchItem:
    """
    One input of a batch.

    :param value: the image or the payload, as the user gave it
    :param label: its name in the manifest and in logs: no signature, no image data
    :param name: of its result below the destination, ``None`` where ``problem`` says why the input is unusable
    :param same_as: the key of the first input that is the same one; this one is not bought again
    """

    key: str
    value: Any
    label: str
    name: ResultName | None = None
    problem: str | None = None
    same_as: str | None = None


def plan_images(listed: Iterable[ListedImage], template: NameTemplate) -> list[BatchItem]:
    """
    Return an item for each image.

    :raises SegmindInputError: two different images would get one name
    """

    def unusable(index: int, entry: ListedImage, problem: str) -> BatchItem:
        label = _label_of(entry.image)
        return BatchItem(_digest(f"unusable {index} {label}"), None, label, problem=problem)

    def item(index: int, entry: ListedImage) -> BatchItem:
        if entry.problem is not None:
            return unusable(index, entry, entry.problem)
        try:
            source = parse_image(entry.image, "images")
            name = template.name(folder=entry.folder, stem=source.stem or source.digest[:16], index=index)
        except SegmindInputError as error:
            return unusable(index, entry, str(error))
        # The name of the connection is not a secret, and failed.jsonl must lead back to the object.
        label = source.location.uri if source.location.kind == "s3" else source.label
        return BatchItem(source.digest, entry.image, label, name)

    return _without_duplicates(item(index, entry) for index, entry in enumerate(listed))


def plan_payloads(
    model: str, payloads: Iterable[Any], template: NameTemplate, known_by: Callable[[Any], Any]
) -> list[BatchItem]:
    """
    Return an item for each payload, whose ``{stem}`` is the beginning of a digest of it.

    :param known_by: returns what a payload is known by, without signatures; raises for an unusable one
    """

    def item(index: int, payload: object) -> BatchItem:
        try:
            key = input_digest(model, known_by(payload))
            name = template.name(folder="", stem=key[:16], index=index)
        except SegmindInputError as error:
            return BatchItem(_digest(f"unusable {index}"), None, f"payload {index}", problem=str(error))
        return BatchItem(key, payload, f"payload {index} ({key[:16]})", name)

    return _without_duplicates(item(index, payload) for index, payload in enumerate(payloads))


def _without_duplicates(items: Iterable[BatchItem]) -> list[BatchItem]:
    """Mark what is there already, and refuse two different inputs whose results would have one name."""
    planned: list[BatchItem] = []
    first: set[str] = set()
    repeated: dict[str, int] = {}
    for each in items:
        if each.key in first:
            repeated[each.key] = repeated.get(each.key, 1) + 1
            planned.append(replace(each, key=_digest(f"{each.key} {repeated[each.key]}"), same_as=each.key))
        else:
            first.add(each.key)
            planned.append(each)
    conflict = find_name_conflicts(
        (item.label, item.same_as or item.key, item.name) for item in planned if item.name is not None
    )
    if conflict is not None:
        raise conflict
    return planned


def _label_of(value: object) -> str:
    """Return the name of an unusable input: in full if it is as long as an address can be, else its beginning."""
    if not isinstance(value, str):
        return redact(repr(value), limit=60)
    return quoted(value)[1:-1] if len(value) > _LONGEST_LABEL else without_query(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def write_plan(listed: Iterable[ListedImage]) -> bytes | None:
    """Return the list as lines of JSON; ``None`` where an image's text is not fit to be kept, such as a signed URL."""
    lines = []
    for entry in listed:
        text = entry.image
        if not isinstance(text, str) or (entry.problem is None and parse_image(text, "images").label != public(text)):
            return None
        if public(text) != text and not text.lower().startswith("s3://"):
            return None
        lines.append(json.dumps([text, entry.folder, entry.problem]))
    return "\n".join(lines).encode()


def read_plan(data: bytes) -> Iterator[ListedImage]:
    """Read what :func:`write_plan` returned."""
    for line in data.splitlines():
        text, folder, problem = json.loads(line)
        yield ListedImage(text, folder, problem)


class Inputs(Protocol):
    """The inputs of a batch."""

    def items(self, documents: DocumentStore) -> list[BatchItem]:
        """Return the plan, the same one in all worker parts of a run."""


@dataclass(frozen=True, slots=True)
class ImageInputs:
    """
    Images, as an operator's parameters name them.

    What is listed (a prefix, a glob, a list file) is kept for the run, so that a photo that arrives meanwhile waits for
    the next one. A list file with signed URLs is read again instead: such URLs are not written anywhere.
    """

    images: object
    destination: Destination
    template: NameTemplate
    aws_conn_id: str | None

    def items(self, documents: DocumentStore) -> list[BatchItem]:
        """Return the plan."""
        document = documents.read(PLAN)
        if document is not None:
            try:
                listed = list(read_plan(document.data))
            except (ValueError, TypeError) as error:
                raise SegmindCheckpointError(
                    f"The batch's list of inputs {documents.label_of(PLAN)} cannot be read ({type(error).__name__}). "
                    "Nothing was submitted. Delete this object and clear the task: the images are listed again, and "
                    "what is paid for is not paid for again."
                ) from error
            return plan_images(listed, self.template)
        listed = list_images(self.images, aws_conn_id=self.aws_conn_id, destination=self.destination)
        items = plan_images(listed, self.template)
        if not is_fixed_list(self.images):
            for item in items:
                if item.name is not None:
                    result = self.destination.named(item.name).locate(stem="", extension=".png")
                    refuse_listed_result(self.images, self.destination, result)
            if (data := write_plan(listed)) is not None:
                documents.write(PLAN, data)  # Chaos seam: batch_inputs
        return items


@dataclass(frozen=True, slots=True)
class PayloadInputs:
    """Payloads of a model; ``known_by`` as in :func:`plan_payloads`."""

    model: str
    payloads: Sequence[Any]
    template: NameTemplate
    known_by: Callable[[Any], Any]

    def items(self, documents: DocumentStore) -> list[BatchItem]:  # noqa: ARG002
        """Return the plan."""
        return plan_payloads(self.model, self.payloads, self.template, self.known_by)


def existing_results(
    documents: DocumentStore,
    items: Sequence[BatchItem],
    list_names: Callable[[int], Collection[str] | None],
    *,
    again: bool,
) -> Collection[str] | None:
    """
    Return the names below the destination at which one of the inputs may find its result; ``None``: ask for each.

    They are listed once in each try. A result that the same try has stored since has a row in the journal.

    :param list_names: returns all names, ``None`` if there are more than the given number
    :param again: list them although an earlier part has
    """
    document = None if again else documents.read(EXISTING)
    if document is not None:
        known = parse_json(document.data.decode())
        return frozenset(known) if isinstance(known, list) else None
    found = list_names(MOST_LISTED + MOST_LISTED_EACH * len(items))
    wanted = (item.name.with_extension(extension) for item in items if item.name for extension in RESULT_EXTENSIONS)
    names = None if found is None else sorted(name for name in wanted if name in found)
    documents.write(EXISTING, json.dumps(names).encode())  # Chaos seam: batch_existing
    return None if names is None else frozenset(names)
