"""
What a run of the cluster does: its photos, its two DAGs, and how the account's rate limit is divided.

The rules by which the limit is divided are those of ``docs/rate-limits.md``. The run shows that they keep it.
"""

from __future__ import annotations

from dataclasses import dataclass

SEED = 9
"""The seed of the photos."""

BUCKET = "photos"

REQUESTS_PER_MINUTE = 800
"""The account's rate limit."""

MAPPED_LIMIT, CHUNKED_LIMIT = 450, 350
"""What each DAG has of it, as both run at the same time."""

JOB_SECONDS, JOB_SIGMA = 11.97, 0.15
"""How long the jobs take: as long as Segmind says of this model."""

POOL = "segmind"
POOL_SLOTS = 30
"""How many images of the mapped DAG are under way at a time. Deferred ones count."""

TRIGGERERS, WORKERS, WORKER_CONCURRENCY = 2, 2, 4

CHUNKS = 4

MAPPED_CONNECTION = "segmind_mapped"
CHUNK_CONNECTIONS = tuple(f"segmind_chunk_{number}" for number in range(CHUNKS))
"""Connections to one account. A process has a rate limiter for each connection, so each has its own share."""


@dataclass(frozen=True)
class Photo:
    """
    One photo.

    :param number: its number, which decides how it is drawn
    :param folder: the folder of its DAG in the bucket
    """

    number: int
    folder: str

    @property
    def stem(self) -> str:
        """The name of the photo and of its result, without extension."""
        return f"photo-{self.number:04}"

    @property
    def source(self) -> str:
        """The URI of the photo."""
        return f"s3://{BUCKET}/{self.folder}/incoming/{self.stem}.jpg"

    @property
    def target(self) -> str:
        """The URI at which the result must be stored in the end."""
        return f"s3://{BUCKET}/{self.folder}/erased/{self.stem}.png"


@dataclass(frozen=True)
class Part:
    """
    What one DAG does.

    :param dag_id: the id of the DAG
    :param folder: its folder in the bucket
    :param tasks: how many task instances its mapped task has
    :param photos: its photos
    """

    dag_id: str
    folder: str
    tasks: int
    photos: tuple[Photo, ...]

    @property
    def destination(self) -> str:
        """The prefix of its results."""
        return f"s3://{BUCKET}/{self.folder}/erased/"


def make_part(dag_id: str, folder: str, numbers: range, *, tasks: int | None = None) -> Part:
    """
    Return the part of a DAG.

    :param dag_id: the id of the DAG
    :param folder: its folder in the bucket
    :param numbers: the numbers of its photos
    :param tasks: how many task instances it has; by default one for each photo
    """
    return Part(dag_id, folder, tasks or len(numbers), tuple(Photo(number, folder) for number in numbers))


MAPPED = make_part("erase_mapped", "mapped", range(200))
CHUNKED = make_part("erase_chunks", "chunks", range(200, 400), tasks=CHUNKS)
PARTS = (CHUNKED, MAPPED)
"""In the order in which the DAGs are triggered: the chunks first, as all their tasks fit on the workers at once."""


def chunks() -> list[list[str]]:
    """Return the photos of the DAG that works in chunks, as many lists as it has task instances."""
    sources = [photo.source for photo in CHUNKED.photos]
    size = -(-len(sources) // CHUNKS)
    return [sources[start : start + size] for start in range(0, len(sources), size)]


def triggerer_share(limit: float, slots: int, triggerers: int) -> float:
    """
    Return a triggerer's share of the rate limit where each image is a mapped task of its own.

    An image costs a submit, which a worker sends, and at least two requests of a triggerer, the last poll and the one
    for the result. So in any minute workers send at most half as many requests as triggerers, and one for each slot of
    the pool on top, for the images whose triggers have sent nothing yet.

    :param limit: the account's requests per minute
    :param slots: the slots of the pool in which the tasks run, deferred ones included
    :param triggerers: how many triggerers run
    """
    return (limit - slots) * 2 / 3 / triggerers


def chunk_share(limit: float, running: int) -> float:
    """
    Return a batch's share of the rate limit where several run at a time.

    One share is left over: for the requests of the last minute of a batch whose process was killed, of which its
    successor does not know.

    :param limit: the account's requests per minute
    :param running: how many batches run at a time
    """
    return limit / (running + 1)
