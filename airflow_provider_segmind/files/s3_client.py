"""
S3 clients: a process makes one for each AWS connection, and sources, destinations, images and threads share it.

A client is dear: 50 ms of CPU, and 250 ms together with the imports in a process that makes its first. (``S3Hook`` adds
100 ms in such a process, as it looks for the name of its caller among all modules; so clients are made here, from the
hook's session.) A shared client also keeps its connections to S3 open. Three rules keep it from being outdated:

* It serves only as long as what shaped it stays the same: all that the connection says, the region, and the variables
  of the environment that boto and its proxies read. A change is seen when the connection is read the next time.
* The connection is read once for each worker part of a job (:func:`read_connections_once`), not at each request to S3:
  to read it, a task process asks its supervisor. A part that takes longer reads it again after a minute.
* After five minutes it is made again, as credentials may also come from a file or a profile that nobody tells of.
  A role's credentials are renewed by boto itself.

A client is safe to use in threads, but not in a process that was forked from its own, which starts without clients.
"""

from __future__ import annotations

import copy
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_segmind import __version__
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.location import Location

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

    _Readings = dict[str | None, tuple[float, AwsConnectionWrapper, str]]

CLIENT_SECONDS = 300.0
READING_SECONDS = 60.0

SIGNING_REGION = "SegmindSigningRegion"
"""The name under which the ``ResponseMetadata`` of a read has the region that its request was signed for."""

# botocore's own are 60 s and 5 attempts for each request: a dead endpoint would hold a worker slot for ten minutes.
_CONFIG = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": 32,  # for the threads of a batch
    "user_agent_extra": f"airflow-provider-segmind/{__version__}",
}
_write_headers: ContextVar[Mapping[str, str] | None] = ContextVar("segmind_s3_write_headers", default=None)
_readings: ContextVar[_Readings | None] = ContextVar("segmind_s3_readings", default=None)


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    made_at: float = 0.0
    client: Any = None


_clients: dict[str, _Entry] = {}
# The parent's sockets are open in the child too: both would write into one connection.
os.register_at_fork(after_in_child=_clients.clear)


def s3_hook(
    location: Location,
    aws_conn_id: str | None,
    *,
    region: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> S3Hook:
    """
    Return a hook of its own with the shared client. The connection's ``config_kwargs`` override the defaults here.

    :param aws_conn_id: unless the location names a connection; ``None`` is boto's default chain
    :param region: instead of the connection's
    :param extra_args: upload arguments of boto3
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    conn_id = location.conn_id or aws_conn_id
    hook = S3Hook(aws_conn_id=conn_id, extra_args=dict(extra_args or {}))
    try:
        settings, environment = _read_connection(conn_id)
        settings = copy.copy(settings)
        settings.region_name = region or settings.region_name
        hook.conn_config = settings
        hook.conn = _shared(_shape_of(settings, environment), lambda: _make_client(hook))
    except (TypeError, ValueError) as error:  # an unknown name in config_kwargs, an invalid endpoint_url
        reason = f"{type(error).__name__}: {redact(error, limit=1000)}"
        raise SegmindInputError(
            f"aws_conn_id: no S3 client can be made from the connection {conn_id!r}: {reason}"
        ) from error
    return hook


@contextmanager
def read_connections_once() -> Iterator[None]:
    """Let this thread read each AWS connection once while the block runs, or once a minute. It may be nested."""
    token = _readings.set({}) if _readings.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _readings.reset(token)


@contextmanager
def write_headers(headers: Mapping[str, str]) -> Iterator[None]:
    """
    Add headers to the requests with which this thread makes an object appear while the block runs.

    boto's uploads take no condition among their arguments, though S3 does with the requests that they consist of. A
    multipart upload is decided by the request that completes it. Other threads use the same client meanwhile, and their
    requests do not get these headers.
    """
    token = _write_headers.set(headers)
    try:
        yield
    finally:
        _write_headers.reset(token)


def _read_connection(conn_id: str | None) -> tuple[AwsConnectionWrapper, str]:
    """Return what a connection says, over our own defaults, and what the environment says beside it."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config  # type: ignore[import-untyped]

    settings: AwsConnectionWrapper
    readings, now = _readings.get(), time.monotonic()
    if readings is not None and conn_id in readings:
        read_at, settings, environment = readings[conn_id]
        if now - read_at < READING_SECONDS:
            return settings, environment
    hook = S3Hook(aws_conn_id=conn_id)
    settings = hook.conn_config
    settings.botocore_config = Config(**_CONFIG).merge(hook.config)
    environment = _read_environment()
    if readings is not None:
        readings[conn_id] = (now, settings, environment)
    return settings, environment


def _read_environment() -> str:
    """Return the variables that boto and its proxies read, as one text."""
    named = ("AWS_", "BOTO"), ("_PROXY", "CA_BUNDLE")
    found = {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(named[0]) or name.upper().endswith(named[1])
    }
    return json.dumps(found, sort_keys=True)


def _shape_of(settings: AwsConnectionWrapper, environment: str) -> str:
    """Return a text that is the same for all connections and environments of which the same client is made."""
    said = (settings.login, settings.password, settings.schema, settings.extra_config, settings.region_name)
    return json.dumps([str(settings.conn_id), said, environment], sort_keys=True, default=str)


def _shared(shape: str, make: Callable[[], Any]) -> Any:
    """Return the client of this shape. Threads that need it at the same time wait until the first has made it."""
    now = time.monotonic()
    for known, entry in list(_clients.items()):
        if known != shape and entry.client is not None and now - entry.made_at >= CLIENT_SECONDS:
            _clients.pop(known, None)
    entry = _clients.setdefault(shape, _Entry())
    with entry.lock:
        if entry.client is None or now - entry.made_at >= CLIENT_SECONDS:
            try:
                entry.client, entry.made_at = make(), now
            except BaseException:
                _clients.pop(shape, None)
                raise
        return entry.client


def _make_client(hook: S3Hook) -> Any:
    """Make what ``hook.get_conn()`` would, without its search for the caller's name."""
    client = hook.get_session(region_name=hook.region_name).client(
        service_name="s3",
        endpoint_url=hook.conn_config.get_service_endpoint_url(service_name="s3"),
        config=hook.config,
        verify=hook.verify,
    )
    # Registered once for each client, which threads share: what differs between requests comes from their own context.
    events = client.meta.events
    events.register_first("choose-signer.s3", _sign_urls_with_sigv4)
    events.register("after-call.s3.GetObject", _tell_signing_region)
    for operation in ("PutObject", "CompleteMultipartUpload"):
        events.register(f"before-call.s3.{operation}", _add_write_headers)
    return client


def _sign_urls_with_sigv4(signature_version: object, **_: object) -> str | None:
    """
    Sign URLs with SigV4 where boto would use its predecessor, which AWS does not take in every region.

    Access points of several regions and directory buckets have signatures of their own, and a connection can say that
    nothing is signed.
    """
    return "s3v4-query" if signature_version in ("s3-query", "v4-query", "s3v4-query") else None


def _tell_signing_region(parsed: dict[str, Any], context: Mapping[str, Any], **_: object) -> None:
    """
    Pass on the region that a request was signed for, which is the bucket's.

    S3 tells a bucket's region when it is asked in another one. botocore then follows, remembers it for the client's
    later requests, and goes on signing URLs for the client's region, which S3 refuses.
    """
    parsed.setdefault("ResponseMetadata", {})[SIGNING_REGION] = context.get("signing", {}).get("region")


def _add_write_headers(params: dict[str, Any], **_: object) -> None:
    params["headers"].update(_write_headers.get() or {})
