"""Fetching a result file: from trusted hosts only, checked before anybody sees it, tried again where it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from mimetypes import guess_type
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from airflow_provider_segmind.api.gateway import GET_ATTEMPTS, backoff
from airflow_provider_segmind.api.models import SegmindFile, SegmindOutput, SegmindResult
from airflow_provider_segmind.api.operation import (
    OUTPUT_HOSTS,
    ApiContext,
    Operation,
    Request,
    Response,
    TransportFailure,
    pause,
    send,
)
from airflow_provider_segmind.api.redaction import shareable_url
from airflow_provider_segmind.exceptions import SegmindOutputError
from airflow_provider_segmind.files.formats import inspect

MAX_HOPS = 5
FILE_SECONDS = 900.0
"""A result file may take this long to come."""

KEPT_SECONDS = 6.5 * 86_400
"""Segmind keeps a file for seven days. Only of one about as old a 403 is believed to mean that it is gone: S3 says so
where it may not tell, and a proxy's 403 means nothing."""


def is_trusted(api: ApiContext, url: str) -> bool:
    """Whether a result file may come from there: https (http where the base URL is), one of the trusted hosts."""
    base = urlsplit(api.base_url)
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower().rstrip(".")
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme != "https" and not (parts.scheme == "http" and base.scheme == "http"):
        return False
    if not host or "@" in parts.netloc or "\\" in url:
        return False
    hosts = (*OUTPUT_HOSTS, *api.output_hosts, base.hostname or "")
    return any(host.endswith(name[1:].lower()) if name.startswith("*.") else host == name.lower() for name in hosts)


def public_output(api: ApiContext, result: SegmindResult) -> str | None:
    """Return the address of a result that anybody may see and use: trusted, and without a signature."""
    link = shareable_url(result.output_url)
    return link if link and is_trusted(api, link) else None


class _Spool:
    """Takes a body: counts, digests, refuses what is too large."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self.begin({})

    def begin(self, headers: Mapping[str, str]) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        self.digest = hashlib.sha256()
        length = headers.get("content-length", "")
        encoded = headers.get("content-encoding", "identity") != "identity"
        self.expected = int(length) if length.isdecimal() and len(length) < 20 and not encoded else None
        self._check(self.expected or 0)

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._check(self.size)
        self.digest.update(chunk)
        self._file.write(chunk)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise SegmindOutputError(
                f"The result file is larger than {self._limit / 1024**2:g} MiB: raise 'max_result_mb' in the "
                "connection's extra if that is meant."
            )


def download(api: ApiContext, result: SegmindResult, file: BinaryIO, *, image: bool = False) -> Operation[SegmindFile]:
    """
    Fetch a result's first output into an empty, seekable file and check it.

    :param image: whether it must be an image whatever the service declares
    :raises SegmindOutputError: there is no output, its host is not trusted, or five tries did not give a whole file
    """
    if not result.outputs:
        raise SegmindOutputError(
            f"Request {result.request_id} has completed without a file that could be fetched: look at it in Segmind's "
            "request history. A retry asks again, without paying.",
            request_id=result.request_id,
        )
    output = result.outputs[0]
    spool = _Spool(file, api.max_result_bytes)
    failures = 0
    while True:
        problem = None
        declared = output.content_type
        if output.url is None:
            spool.begin({})
            spool.write(output.data or b"")
        else:
            try:
                answer = yield from _fetch(api, output.url, spool, result.request_id)
            except TransportFailure as failure:
                problem = api.redact(failure)
            else:
                # The name comes first: it is the API's word, the header may be that of an error page.
                named, _ = guess_type(urlsplit(output.url).path, strict=False)
                declared = declared or named or answer.headers.get("content-type")
                problem = _shortfall(answer, spool, output)
        if problem is None:
            try:
                media = inspect(file, declared, image=image)
            except ValueError as wrong:
                problem = str(wrong)
            else:
                return SegmindFile(spool.size, spool.digest.hexdigest(), media.content_type, media.width, media.height)
        failures += 1
        if failures >= GET_ATTEMPTS or output.url is None:
            raise SegmindOutputError(
                f"The result file of request {result.request_id} is of no use after {failures} tries: {problem}. It "
                f"is paid for and stays at Segmind for 7 days ({shareable_url(output.url) or 'inline or signed'}): a "
                "retry fetches it again without paying.",
                request_id=result.request_id,
            )
        yield from pause(backoff(api, failures))


def _fetch(api: ApiContext, url: str, spool: _Spool, request_id: str) -> Operation[Response]:
    """GET a file without the key, following redirects between trusted hosts."""
    for _ in range(MAX_HOPS):
        if not is_trusted(api, url):
            host = api.redact(url.partition("://")[2].partition("/")[0].rpartition("@")[2] or url)
            raise SegmindOutputError(
                f"The result file of request {request_id} is at {host}, which is not trusted (or not https): if it is "
                "Segmind's, add the host to 'output_hosts' in the connection's extra.",
                request_id=request_id,
            )
        answer = yield from send(
            Request("GET", url, with_key=False, into=spool, max_bytes=64 * 1024, max_seconds=FILE_SECONDS)
        )
        if answer.status not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
            return answer
        try:
            url = urljoin(url, answer.headers["location"])
        except ValueError:
            url = answer.headers["location"]  # no address at all: refused in the next round
    raise SegmindOutputError(
        f"The result file of request {request_id} is redirected in circles.", request_id=request_id
    )


def _shortfall(answer: Response, spool: _Spool, output: SegmindOutput) -> str | None:
    """Say what is missing of a fetched file."""
    if answer.status != 200:
        return f"its host answers HTTP {answer.status}"
    if answer.cut or spool.size == 0:
        return answer.cut or "it is empty"
    expected = spool.expected if spool.expected is not None else output.file_size
    if expected is not None and spool.size != expected:
        return f"it has {spool.size} of {expected} bytes"
    return None


def file_is_gone(api: ApiContext, url: str, made_at: float | None) -> Operation[bool]:
    """
    Whether a file's host says that there is no such file (any more); trouble in asking is no such word.

    :param made_at: epoch seconds of the job, ``None`` where that is unknown
    """
    if not is_trusted(api, url):
        return False
    old = made_at is not None and api.clock() - made_at > KEPT_SECONDS
    gone = 0
    for failures in range(1, 5):
        try:
            # No HEAD: a signature is good for one verb, and the address is signed for GET.
            answer = yield from send(Request("GET", url, with_key=False, max_bytes=1))
        except TransportFailure:
            pass
        else:
            # A signature that has expired is refused with a 403 too, and says nothing of its file.
            if answer.status not in (404, 410) and not (answer.status == 403 and old and "?" not in url):
                return False
            gone += 1
            if gone == 2:  # an image is paid for again on this word: it is asked for twice
                return True
        yield from pause(backoff(api, failures))
    return False
