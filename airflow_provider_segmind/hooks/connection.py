"""What a Segmind connection says, checked."""

from __future__ import annotations

import json
import math
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import httpx

from airflow_provider_segmind.api.operation import BASE_URL, HISTORY_URL, STORAGE_URL
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.get_provider_info import FIELDS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection


_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_IPV6 = re.compile(r"[0-9a-f]*:[0-9a-f:.]+")
_OUTPUT_HOST = re.compile(rf"(?:\*\.)?{_HOST.pattern}")


@dataclass(frozen=True, slots=True)
class SegmindSettings:
    """
    One connection, checked.

    :param connect_timeout: seconds
    :param read_timeout: seconds between two pieces of an answer
    :param max_result_mb: MiB; no result file may be larger
    :param verify: whether TLS certificates are checked, or the path of a bundle to check them by
    """

    api_key: str = field(repr=False)
    base_url: str = BASE_URL
    history_url: str = HISTORY_URL
    storage_url: str = STORAGE_URL
    output_hosts: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    max_result_mb: float = 1024.0
    verify: bool | str = True

    @property
    def key_origins(self) -> frozenset[tuple[str, str, int]]:
        """The only places (scheme, host, port) that may see the key."""
        return frozenset(_origin(url) for url in (self.base_url, self.history_url, self.storage_url))

    @classmethod
    def from_connection(cls, connection: Connection) -> SegmindSettings:
        """
        Read a connection.

        :raises SegmindInputError: names the connection, the field, its value and the remedy
        """
        conn_id = connection.conn_id or "segmind_default"

        def wrong(what: str, remedy: str) -> SegmindInputError:
            return SegmindInputError(f"Connection {conn_id!r}: {what}. {remedy}")

        key = (connection.password or "").strip()
        if not key:
            raise wrong("it has no password", "Put the Segmind API key there (segmind.com, console, API keys).")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise wrong("its password cannot be an API key (spaces or special characters)", "Copy the key again.")
        base_url = _base_url(connection, wrong)
        extra = _extra(connection, wrong)
        own = base_url == BASE_URL
        history = "/inference-request/request-history"
        return cls(
            api_key=key,
            base_url=base_url,
            history_url=_url(extra, "history_url", HISTORY_URL if own else f"{base_url}{history}", base_url, wrong),
            storage_url=_url(extra, "storage_url", STORAGE_URL if own else f"{base_url}/upload-asset", base_url, wrong),
            output_hosts=_hosts(extra.get("output_hosts"), wrong),
            requests_per_minute=_whole(extra, "requests_per_minute", wrong),
            connect_timeout=_above_zero(extra, "connect_timeout", 5.0, wrong),
            read_timeout=_above_zero(extra, "read_timeout", 30.0, wrong),
            max_result_mb=_above_zero(extra, "max_result_mb", 1024.0, wrong),
            verify=_verify(extra.get("verify"), wrong),
        )


Wrong = Callable[[str, str], SegmindInputError]


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS[parts.scheme]


def _address(url: str, shown: str, remedy: str, wrong: Wrong) -> SplitResult:
    """Take an address apart to which the key will go; ``shown`` is how an error names it."""
    try:
        parts = urlsplit(url)
        name = "" if re.search(r"\s", url) else parts.hostname or ""  # urlsplit drops some white space by itself
        plain = parts.port != 0 and "@" not in parts.netloc and not re.search("[?#]", url)
    except ValueError:  # a port that is none, a bracket too many
        raise wrong(f"{shown} is no host or URL", remedy) from None
    if parts.scheme not in _DEFAULT_PORTS or not plain:
        raise wrong(f"{shown} is no plain http(s) URL", remedy)
    if not _HOST.fullmatch(name) and not _IPV6.fullmatch(name):
        raise wrong(f"{shown} has no host name", remedy)
    if parts.scheme == "http" and f".{name}".endswith(".segmind.com"):
        raise wrong(f"{shown} would send the key unencrypted", "Use https.")
    return parts


def _base_url(connection: Connection, wrong: Wrong) -> str:
    host = (connection.host or "").strip()
    remedy = f"Leave the host empty for {BASE_URL}, or give a host name or a URL such as 'https://host:8443'."
    # An unusable field can carry anything, a key pasted into the wrong one included: it is cleaned before it is shown.
    # The schema is "https" where it is empty, also but for the path that a URI connection has there; a URI connection's
    # own scheme ("segmind://") says nothing.
    scheme = re.sub(r"/?\bv[12]/?$", "", (connection.schema or "").strip().lower()) or "https"
    if scheme not in _DEFAULT_PORTS:
        raise wrong(
            f"schema={redact(repr(connection.schema), limit=60)} is not http or https, nor the path /v1 or /v2", remedy
        )
    if connection.port and not (host and 0 < int(connection.port) < 65_536):
        raise wrong(f"port={connection.port} is no port, or one without a host", remedy)
    if not host:
        return BASE_URL
    shown = f"host={redact(repr(host), limit=120)}"
    parts = _address(host if "://" in host else f"{scheme}://{host}", shown, remedy, wrong)
    if parts.path.rstrip("/") not in ("", "/v1", "/v2"):
        raise wrong(f"{shown} has the path {redact(parts.path, limit=60)!r}", f"Only /v1 or /v2 may follow. {remedy}")
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or connection.port
    return f"{parts.scheme}://{name}" + (f":{port}" if port and port != _DEFAULT_PORTS[parts.scheme] else "")


def _extra(connection: Connection, wrong: Wrong) -> dict[str, Any]:
    text = connection.extra
    if not text:
        return {}
    try:
        extra = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        raise wrong("its extra is not JSON", 'Write it like {"requests_per_minute": 50}.') from None
    if not isinstance(extra, Mapping):
        raise wrong("its extra is not a JSON object", 'Write it like {"requests_per_minute": 50}.')
    unknown = sorted(set(map(str, extra)) - set(FIELDS))
    if unknown:
        raise wrong(
            f"its extra has unknown fields: {redact(', '.join(unknown))}", f"Known are {', '.join(sorted(FIELDS))}."
        )
    return {key: value for key, value in extra.items() if value not in (None, "")}


def _url(extra: Mapping[str, Any], name: str, default: str, base_url: str, wrong: Wrong) -> str:
    value = extra.get(name, default)
    shown = f"{name}={redact(repr(value), limit=120)}"
    remedy = "Give the list's or upload's whole URL, without user or query."
    parts = _address(value if isinstance(value, str) else "", shown, remedy, wrong)
    if parts.scheme == "http" and base_url.startswith("https:"):
        raise wrong(f"{shown} would send the key unencrypted", "Use https.")
    return str(value).rstrip("/")


def _hosts(value: object, wrong: Wrong) -> tuple[str, ...]:
    if value is None:
        return ()
    listed: Any = value
    if isinstance(value, str):
        try:
            listed = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
        except ValueError:
            listed = None
    if isinstance(listed, list) and all(isinstance(host, str) for host in listed):
        hosts = tuple(re.sub(r":\d+$", "", host.strip().lower()) for host in listed)
        if hosts and all(map(_OUTPUT_HOST.fullmatch, hosts)):
            return hosts
    raise wrong(
        f"output_hosts={redact(repr(value), limit=120)} is no list of host names",
        'Write it like ["cdn.example.com", "*.example.org"], without scheme or path.',
    )


def _number(extra: Mapping[str, Any], name: str, default: float | None) -> float:
    """Read a number, also one written as text; nan where it is none."""
    value = extra.get(name, default)
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _whole(extra: Mapping[str, Any], name: str, wrong: Wrong) -> int | None:
    if name not in extra:
        return None
    number = _number(extra, name, None)
    if number.is_integer() and 0 < number < 1e6:
        return int(number)
    raise wrong(
        f"{name}={redact(repr(extra[name]), limit=60)} is no whole number above 0",
        "Free accounts have 5, Pro accounts 50.",
    )


def _above_zero(extra: Mapping[str, Any], name: str, default: float, wrong: Wrong) -> float:
    number = _number(extra, name, default)
    if not 0 < number <= 1e6:
        raise wrong(
            f"{name}={redact(repr(extra[name]), limit=60)} is no number above 0", f"The default is {default:g}."
        )
    return number


def _verify(value: object, wrong: Wrong) -> bool | str:
    if value is None or isinstance(value, bool):
        return value is not False
    text = str(value).strip()
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    why = "is neither true nor false nor the path of a CA bundle"
    if text.startswith(("/", ".", "~")):
        try:
            path = str(Path(text).expanduser())
            tls_context(path)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: whose home is unknown
            why = f"cannot be read as a CA bundle ({redact(error, limit=120)})"
        else:
            return path
    raise wrong(
        f"verify={redact(repr(value), limit=60)} {why}",
        "Give true, false, or the path of a PEM file with CA certificates, beginning with '/', '.' or '~'.",
    )


@cache
def tls_context(verify: bool | str) -> ssl.SSLContext:
    """Build a TLS context once: it costs 20 ms, more than anything else about a client."""
    if isinstance(verify, str):
        return ssl.create_default_context(cafile=verify)
    return httpx.create_ssl_context(verify=verify)
