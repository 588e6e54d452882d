"""Everything that a run leaves behind, gathered once. :mod:`chaos.verdict` judges it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.airflow_database import AirflowDatabase, CheckpointRecord, TaskRecord
from chaos.environment import Environment
from chaos.plan import BUCKET, ERASED
from demo.s3_server import split

IMAGE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff")


@dataclass(frozen=True)
class StoredObject:
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
    What was found when all tasks had ended.

    :param tasks: Airflow's task instances
    :param jobs: the jobs of the accepted POSTs, as the emulator lists them
    :param sources: the photos by URI
    :param stored: the objects below the prefix of the results, by URI
    :param unfinished_uploads: the keys of multipart uploads that were not completed
    :param triggers: the number of triggers that Airflow still has
    :param checkpoints: the checkpoints that Airflow still has
    :param run_state: the state of the DAG run
    :param leftover_images: files in the temporary folder that contain an image, under any name
    :param logs_with_key: log files that contain the API key
    """

    tasks: tuple[TaskRecord, ...]
    jobs: tuple[Mapping[str, Any], ...]
    sources: Mapping[str, bytes]
    stored: Mapping[str, StoredObject]
    unfinished_uploads: tuple[str, ...] = ()
    triggers: int = 0
    checkpoints: tuple[CheckpointRecord, ...] = ()
    run_state: str = "success"
    leftover_images: tuple[str, ...] = ()
    logs_with_key: tuple[str, ...] = ()


def gather_evidence(environment: Environment, database: AirflowDatabase) -> Evidence:
    """
    Collect what a run has left behind in S3, the emulator, Airflow's database and the stack's folder.

    :param environment: where the run took place
    :param database: Airflow's database
    """
    s3, scratch = environment.s3, environment.stack.scratch
    pages = s3.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=split(ERASED)[1])
    targets = [f"s3://{BUCKET}/{found['Key']}" for page in pages for found in page.get("Contents", [])]
    results = {uri: s3.read(uri) for uri in targets}
    uploads = s3.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    log_folders = (scratch / "logs", environment.airflow.home / "logs")
    key = environment.emulator.key
    return Evidence(
        tasks=tuple(database.tasks()),
        jobs=tuple(environment.emulator.jobs()["jobs"]),
        sources={image.source: s3.read(image.source)["Body"] for image in environment.plan.images},
        stored={uri: StoredObject(found["Body"], found["Metadata"]) for uri, found in results.items()},
        unfinished_uploads=tuple(upload["Key"] for upload in uploads),
        triggers=database.triggers(),
        checkpoints=tuple(database.checkpoints()),
        run_state=database.run_state(),
        leftover_images=tuple(str(path.relative_to(scratch)) for path in find_images(scratch / "tmp")),
        logs_with_key=tuple(
            str(path.relative_to(scratch)) for folder in log_folders for path in find_files_with(key, folder)
        ),
    )


def find_files_with(text: str, folder: Path) -> Iterator[Path]:
    """Find the files below a folder that contain a text."""
    return (path for path in _files(folder) if text.encode() in path.read_bytes())


def find_images(folder: Path) -> Iterator[Path]:
    """Find the files below a folder that contain an image. Only the package's tasks write such files to ``TMPDIR``."""
    for path in _files(folder):
        with path.open("rb") as file:
            if file.read(8).startswith(IMAGE_SIGNATURES):
                yield path


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
