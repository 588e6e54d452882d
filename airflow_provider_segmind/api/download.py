"""Downloading a result file: from trusted hosts only, without the key, repeated until it is whole."""

from __future__ import annotations

from contextlib import suppress
from mimetypes import guess_type
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from airflow_provider_segmind.api.gateway import GET_ATTEMPTS, backoff
from airflow_provider_segmind.api.models import SegmindFile, SegmindOutput, SegmindResult
from airflow_provider_segmind.api.operation import (
    ApiContext,
    BodyReceiver,
    Operation,
    Request,
    Response,
    TransportFailure,
    pause,
    send,
)
from airflow_provider_segmind.api.redaction import shareable_url
from airflow_provider_segmind.exceptions import SegmindOutputError

OUTPUT_HOSTS = ("*.segmind.com", "segmind-resources.s3.amazonaws.com")
FILE_SECONDS = 900.0  # for the download of a result file
MAX_REDIRECTS = 4
GONE_ATTEMPTS = 4
# Segmind keeps a file for seven days (source: its API page). S3 answers 403 for a missing file where the caller may not
# list the bucket, so for a file about that old any refusal means that it is gone. For a younger one a 403 proves
# nothing, nor does a 404 without the XML or JSON of a storage: a proxy's page has the same status.
FILE_KEPT_SECONDS = 6.5 * 86_400


class ResultSink(BodyReceiver, Protocol):
    """Takes a result file, and refuses one that is too large with a :class:`SegmindOutputError`."""

    size: int  # bytes taken since ``begin``
    expected: int | None  # bytes that the headers announced

    def finish(self, declared: str | None) -> SegmindFile:
        """Check and describe the file; a :class:`ValueError` says why it is not usable."""


def is_trusted(api: ApiContext, url: str) -> bool:
    """Return whether an address has a trusted host, and https, or http if the base URL has it too."""
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


def public_outputs(api: ApiContext, result: SegmindResult) -> tuple[str, ...]:
    """
    Return the addresses of a result's outputs that anybody may see and use: trusted, and without a signature.

    The first stands for the first output in events and XCom, so there are none if that one has no such address.
    """
    urls = [shareable_url(output.url) for output in result.outputs]
    public = [url if url and is_trusted(api, url) else None for url in urls]
    return tuple(url for url in public if url) if public and public[0] else ()


def download(api: ApiContext, result: SegmindResult, sink: ResultSink) -> Operation[SegmindFile]:
    """Download a completed job's first output and check it; after an error ``sink`` holds what came last."""
    request_id = result.request_id
    if not result.outputs:
        raise SegmindOutputError(
            f"Request {request_id} has completed without a file to download. Look at it in Segmind's request history; "
            "a retry asks again and pays nothing.",
            request_id=request_id,
        )
    output = result.outputs[0]
    attempts = 1 if output.url is None else GET_ATTEMPTS
    for attempt in range(1, attempts + 1):
        try:
            return (yield from _download_once(api, output, sink, request_id))
        except (TransportFailure, ValueError) as error:
            reason = api.redact(error)
        if attempt < attempts:
            yield from pause(backoff(api, attempt))
    raise SegmindOutputError(
        f"The result file of request {request_id} is not usable after {attempts} "
        f"{'attempt' if attempts == 1 else 'attempts'}: {reason}. It is paid for and stays at Segmind for 7 days "
        f"({shareable_url(output.url) or 'inline or signed'}); a retry downloads it again and pays nothing.",
        request_id=request_id,
    )


def _download_once(api: ApiContext, output: SegmindOutput, sink: ResultSink, request_id: str) -> Operation[SegmindFile]:
    """Try once; a :class:`ValueError` says why the file is not usable."""
    declared = output.content_type
    if output.url is None:
        sink.begin({})
        sink.write(output.data or b"")
    else:
        response = yield from _get_file(api, output.url, sink, request_id)
        if response.status != 200:
            raise ValueError(f"its host answers HTTP {response.status}")
        if response.truncated:
            raise ValueError(f"it is truncated: {response.truncated}")
        if sink.size == 0:
            raise ValueError("it is empty")
        expected = sink.expected if sink.expected is not None else output.file_size
        if expected is not None and sink.size != expected:
            raise ValueError(f"it has {sink.size} of {expected} bytes")
        # The name is the API's word. The header may be that of an error page, so it comes last.
        named, _ = guess_type(urlsplit(output.url).path, strict=False)
        declared = declared or named or response.headers.get("content-type")
    return sink.finish(declared)


def _get_file(api: ApiContext, url: str, sink: ResultSink, request_id: str) -> Operation[Response]:
    """GET a file without the key, following redirects between trusted hosts."""
    for _ in range(MAX_REDIRECTS + 1):
        if not is_trusted(api, url):
            host = api.redact(url.partition("://")[2].partition("/")[0].rpartition("@")[2] or url)
            raise SegmindOutputError(
                f"The result file of request {request_id} is at {host}, which is not trusted, or not https. If it is "
                "Segmind's host, add it to 'output_hosts' in the connection's extra.",
                request_id=request_id,
            )
        request = Request("GET", url, with_key=False, into=sink, max_bytes=64 * 1024, max_seconds=FILE_SECONDS)
        response = yield from send(request)
        if response.status not in (301, 302, 303, 307, 308) or "location" not in response.headers:
            return response
        try:
            url = urljoin(url, response.headers["location"])
        except ValueError:
            url = response.headers["location"]  # not a URL: the next check refuses it
    text = f"The result file of request {request_id} is redirected more than {MAX_REDIRECTS} times."
    raise SegmindOutputError(text, request_id=request_id)


def file_is_gone(api: ApiContext, url: str, made_at: float | None) -> Operation[bool]:
    """
    Return whether a file's host says twice that the file no longer exists: if so, the caller pays for the image again.

    :param made_at: epoch seconds of the job; with ``None``, for unknown, the file counts as young
    """
    if not is_trusted(api, url):
        return False
    # An expired signature is refused with a 403 too, and says nothing about its file.
    old = made_at is not None and api.clock() - made_at > FILE_KEPT_SECONDS and "?" not in url
    confirmations = 0
    for attempt in range(1, GONE_ATTEMPTS + 1):
        with suppress(TransportFailure):
            # Not a HEAD: a signature is good for one verb, and this address is signed for GET.
            response = yield from send(Request("GET", url, with_key=False, max_bytes=1))
            content_type = response.headers.get("content-type", "")
            is_storage = "xml" in content_type or "json" in content_type
            gone = (403, 404, 410) if old else (404, 410) if is_storage else ()
            if response.status not in gone:
                return False
            confirmations += 1
            if confirmations == 2:
                return True
        yield from pause(backoff(api, attempt))
    return False
