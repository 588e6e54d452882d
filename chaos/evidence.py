"""Everything that a run leaves behind, gathered once: what it means is for :mod:`chaos.verdict` to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.plan import BUCKET, ERASED, Plan
from chaos.records import Records, TaskRecord
from chaos.stage import Stage
from demo.s3_server import split


@dataclass(frozen=True)
class Stored:
    """
    An object in S3.

    :param content: its bytes
    :param metadata: its user metadata
    """

    content: bytes
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Evidence:
    """
    What was found when all had ended.

    :param tasks: Airflow's task instances
    :param jobs: the accepted POSTs, as the emulator tells them
    :param sources: the photos by their URI
    :param stored: what lies below the results' prefix, by its URI
    :param uploads: the keys of multipart uploads that nobody finished
    :param triggers: how many triggers Airflow still has
    :param open_checkpoints: how many checkpoints are about jobs that are not delivered
    :param run_state: the state of the DAG run
    :param pictures: files in the temporary folder that hold a picture, whatever they are called
    :param key_in: logs that hold the API key
    """

    tasks: tuple[TaskRecord, ...]
    jobs: tuple[Mapping[str, Any], ...]
    sources: Mapping[str, bytes]
    stored: Mapping[str, Stored]
    uploads: tuple[str, ...] = ()
    triggers: int = 0
    open_checkpoints: int = 0
    run_state: str = "success"
    pictures: tuple[str, ...] = ()
    key_in: tuple[str, ...] = ()


def gather(stage: Stage, plan: Plan, records: Records) -> Evidence:
    """
    Look everywhere.

    :param stage: where it ran
    :param plan: what was asked for
    :param records: Airflow's tables
    """
    client, scratch = stage.s3.client, stage.stack.scratch
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=split(ERASED)[1])
    targets = [f"s3://{BUCKET}/{found['Key']}" for page in pages for found in page.get("Contents", [])]
    results = {uri: stage.s3.read(uri) for uri in targets}
    uploads = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    logs = (scratch / "logs", scratch / "airflow" / "logs")
    return Evidence(
        tasks=tuple(records.tasks()),
        jobs=tuple(stage.emulator.jobs()["jobs"]),
        sources={image.source: stage.s3.read(image.source)["Body"] for image in plan.images},
        stored={uri: Stored(found["Body"], found["Metadata"]) for uri, found in results.items()},
        uploads=tuple(upload["Key"] for upload in uploads),
        triggers=records.triggers(),
        open_checkpoints=records.open_checkpoints(),
        run_state=records.run_state(),
        pictures=tuple(str(path.relative_to(scratch)) for path in files_with_a_picture(scratch / "tmp")),
        key_in=tuple(
            str(path.relative_to(scratch)) for folder in logs for path in files_holding(folder, stage.emulator.key)
        ),
    )


def files_holding(folder: Path, secret: str) -> Iterator[Path]:
    """
    Find the files that hold a text.

    :param folder: where to look
    :param secret: the text
    """
    return (path for path in _files(folder) if secret.encode() in path.read_bytes())


def files_with_a_picture(folder: Path) -> Iterator[Path]:
    """
    Find the files that hold a picture: of all who write into it, only our own tasks spool such.

    :param folder: where to look
    """
    for path in _files(folder):
        with path.open("rb") as file:
            if file.read(8).startswith((b"\x89PNG", b"\xff\xd8\xff")):
                yield path


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
