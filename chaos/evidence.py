"""Everything that a run leaves behind, gathered once. :mod:`chaos.verdict` judges it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.airflow_database import AirflowDatabase, CheckpointRecord, TaskRecord
from chaos.environment import Environment
from chaos.plan import BATCH_BUCKET, BUCKET, ERASED, LEDGER, SHARED_BUCKET
from demo.s3_server import S3Server, split

BATCH_FOLDER = "/_segmind/"
"""What is below it, below the destination of a batch, is no result."""

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
class StoredVersion:
    """
    One version of an object in the bucket that keeps all of them.

    :param request_id: the job that its metadata names
    :param stored_at: epoch seconds
    """

    request_id: str | None
    stored_at: float


@dataclass(frozen=True)
class LedgerRecord:
    """
    One entry of the ledger.

    :param state: *submitting*, *submitted*, *delivered* or *forgotten*; ``None`` if it is no entry
    :param request_id: the job that it is about
    """

    state: str | None
    request_id: str | None

    @classmethod
    def parse(cls, content: bytes) -> LedgerRecord:
        """Read an object, without the package's own reader, which the run puts to the test."""
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        fields = value if isinstance(value, dict) else {}
        return cls(fields.get("state"), fields.get("request_id"))


@dataclass(frozen=True)
class Evidence:
    """
    What was found when all tasks had ended.

    :param tasks: Airflow's task instances
    :param jobs: the jobs of the accepted POSTs, as the emulator lists them
    :param sources: the photos by URI
    :param stored: the results, by URI
    :param unfinished_uploads: the keys of multipart uploads that were not completed
    :param triggers: the number of triggers that Airflow still has
    :param checkpoints: the checkpoints that Airflow still has
    :param runs: the states of the runs of each DAG, by run id
    :param leftover_images: files in the temporary folder that contain an image, under any name
    :param logs_with_key: log files that contain the API key
    :param versions: all versions of the results of shared images, by URI
    :param ledger: the entries of all ledgers, by URI
    :param manifests: the lines of the manifests of batches, by URI
    """

    tasks: tuple[TaskRecord, ...]
    jobs: tuple[Mapping[str, Any], ...]
    sources: Mapping[str, bytes]
    stored: Mapping[str, StoredObject]
    unfinished_uploads: tuple[str, ...] = ()
    triggers: int = 0
    checkpoints: tuple[CheckpointRecord, ...] = ()
    runs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    leftover_images: tuple[str, ...] = ()
    logs_with_key: tuple[str, ...] = ()
    versions: Mapping[str, tuple[StoredVersion, ...]] = field(default_factory=dict)
    ledger: Mapping[str, LedgerRecord] = field(default_factory=dict)
    manifests: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    def task_state(self, dag_id: str, task_id: str, map_index: int) -> str | None:
        """Return the state of a task instance; ``"missing"`` if there is none."""
        for task in self.tasks:
            if (task.dag_id, task.task_id, task.map_index) == (dag_id, task_id, map_index):
                return task.state
        return "missing"

    def jobs_of_photo(self, stem: str) -> list[Mapping[str, Any]]:
        """Return the jobs of the accepted POSTs with the address of a photo."""
        return [job for job in self.jobs if job["image"].endswith(f"/{stem}.jpg")]


def gather_evidence(environment: Environment, database: AirflowDatabase) -> Evidence:
    """
    Collect what a run has left behind in S3, the emulator, Airflow's database and the stack's folder.

    :param environment: where the run took place
    :param database: Airflow's database
    """
    s3, scratch = environment.s3, environment.stack.scratch
    prefixes = [ERASED, f"s3://{SHARED_BUCKET}/", *(batch.stored_at for batch in environment.plan.batches)]
    objects = [uri for prefix in prefixes for uri in list_objects(s3, prefix)]
    results = {uri: s3.read(uri) for uri in objects if BATCH_FOLDER not in uri}
    entries = [*list_objects(s3, LEDGER), *(uri for uri in objects if f"{BATCH_FOLDER}ledger/" in uri)]
    uploads = [
        upload
        for bucket in (BUCKET, SHARED_BUCKET, BATCH_BUCKET)
        for upload in s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    ]
    log_folders = (scratch / "logs", environment.airflow.home / "logs")
    key = environment.emulator.key
    return Evidence(
        tasks=tuple(database.tasks()),
        jobs=tuple(environment.emulator.jobs()["jobs"]),
        sources={uri: s3.read(uri)["Body"] for uri in environment.plan.photos},
        stored={uri: StoredObject(found["Body"], found["Metadata"]) for uri, found in results.items()},
        unfinished_uploads=tuple(upload["Key"] for upload in uploads),
        triggers=database.triggers(),
        checkpoints=tuple(database.checkpoints()),
        runs=database.runs(),
        leftover_images=tuple(str(path.relative_to(scratch)) for path in find_images(scratch / "tmp")),
        logs_with_key=tuple(
            str(path.relative_to(scratch)) for folder in log_folders for path in find_files_with(key, folder)
        ),
        versions=_list_versions(s3),
        ledger={uri: LedgerRecord.parse(s3.read(uri)["Body"]) for uri in entries},
        manifests={
            uri: tuple(json.loads(line) for line in s3.read(uri)["Body"].splitlines())
            for uri in objects
            if uri.endswith("/manifest.jsonl")
        },
    )


def list_objects(s3: S3Server, prefix: str) -> list[str]:
    """Return the URIs of the objects below a prefix, in order."""
    bucket, key = split(prefix)
    pages = s3.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    return [f"s3://{bucket}/{found['Key']}" for page in pages for found in page.get("Contents", [])]


def _list_versions(s3: S3Server) -> dict[str, tuple[StoredVersion, ...]]:
    """Return all versions of the results of shared images, by URI."""
    versions: dict[str, tuple[StoredVersion, ...]] = defaultdict(tuple)
    for page in s3.client.get_paginator("list_object_versions").paginate(Bucket=SHARED_BUCKET):
        for found in page.get("Versions", []):
            place = {"Bucket": SHARED_BUCKET, "Key": found["Key"], "VersionId": found["VersionId"]}
            request_id = s3.client.head_object(**place)["Metadata"].get("segmind-request-id")
            version = StoredVersion(request_id, found["LastModified"].timestamp())
            versions[f"s3://{SHARED_BUCKET}/{found['Key']}"] += (version,)
    return versions


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
