"""What a Segmind connection says, checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_segmind.api.redaction import clean
from airflow_provider_segmind.api.service import BASE_URL, HISTORY_URL, STORAGE_URL
from airflow_provider_segmind.exceptions import SegmindInputError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_IPV6 = re.compile(r"[0-9a-f]*:[0-9a-f:.]+")
_OUTPUT_HOST = re.compile(rf"(?:\*\.)?{_HOST.pattern}")
_EXTRA = frozenset(
    (
        "requests_per_minute",
        "connect_timeout",
        "read_timeout",
        "history_url",
        "storage_url",
        "output_hosts",
        "max_result_mb",
        "verify",
    )
)


@dataclass(frozen=True, slots=True)
class SegmindSettings:
    """
    One connection, checked.

    :param connect_timeout: seconds
    :param read_timeout: seconds between two pieces of an answer
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
            history_url=_url(extra, "history_url", HISTORY_URL if own else f"{base_url}{history}", wrong),
            storage_url=_url(extra, "storage_url", STORAGE_URL if own else f"{base_url}/upload-asset", wrong),
            output_hosts=_hosts(extra.get("output_hosts"), wrong),
            requests_per_minute=_whole(extra, "requests_per_minute", wrong),
            connect_timeout=_seconds(extra, "connect_timeout", 5.0, wrong),
            read_timeout=_seconds(extra, "read_timeout", 30.0, wrong),
            max_result_mb=_seconds(extra, "max_result_mb", 1024.0, wrong),
            verify=_verify(extra.get("verify"), wrong),
        )


Wrong = Callable[[str, str], SegmindInputError]


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def _base_url(connection: Connection, wrong: Wrong) -> str:
    host = (connection.host or "").strip()
    remedy = f"Leave the host empty for {BASE_URL}, or give a host name or a URL such as 'https://host:8443'."
    if not host:
        if connection.port:
            raise wrong(f"it has a port ({connection.port}) without a host", remedy)
        return BASE_URL
    # An unusable URL can carry anything, a key pasted into the wrong field included: it is cleaned before it is shown.
    shown = f"host={clean(repr(host), limit=120)}"
    url = host
    if "://" not in host:
        # "https" is what the field is meant for; a URI connection's own scheme ("segmind://") says nothing.
        scheme = (connection.schema or "").strip().lower() or "https"
        if scheme not in ("http", "https"):
            raise wrong(f"schema={scheme!r} is not http or https", remedy)
        url = f"{scheme}://{host}"
    try:
        parts = urlsplit(url)
        port = parts.port or (int(connection.port) if connection.port else None)
        name = (parts.hostname or "").lower()
    except ValueError:
        raise wrong(f"{shown} is no host or URL", remedy) from None
    if parts.scheme not in ("http", "https") or parts.username or parts.password or parts.query or parts.fragment:
        raise wrong(f"{shown} is no plain http(s) URL", remedy)
    if not _HOST.fullmatch(name) and not _IPV6.fullmatch(name):
        raise wrong(f"{shown} is no host name", remedy)
    if parts.path.rstrip("/") not in ("", "/v1", "/v2"):
        raise wrong(f"{shown} has the path {clean(parts.path, limit=60)!r}", f"Only /v1 or /v2 may follow. {remedy}")
    if parts.scheme == "http" and (name == "segmind.com" or name.endswith(".segmind.com")):
        raise wrong(f"{shown} would send the key unencrypted", "Use https.")
    bracketed = f"[{name}]" if ":" in name else name
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port and port != default else "")


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
    unknown = sorted(set(map(str, extra)) - _EXTRA)
    if unknown:
        raise wrong(
            f"its extra has unknown fields: {clean(', '.join(unknown))}", f"Known are {', '.join(sorted(_EXTRA))}."
        )
    return {key: value for key, value in extra.items() if value not in (None, "")}


def _url(extra: Mapping[str, Any], name: str, default: str, wrong: Wrong) -> str:
    value = extra.get(name, default)
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        usable = (
            parts.scheme in ("http", "https")
            and bool(_HOST.fullmatch(parts.hostname or "") or _IPV6.fullmatch(parts.hostname or ""))
            and (parts.port or 1)
        )
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment:
        raise wrong(
            f"{name}={clean(repr(value), limit=120)} is no full http(s) URL", "Give the list's or upload's whole URL."
        )
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
    hosts = [re.sub(r":\d+$", "", str(host).strip().lower()) for host in listed] if isinstance(listed, list) else []
    named = all(isinstance(host, str) for host in listed or ()) and all(map(_OUTPUT_HOST.fullmatch, hosts))
    if not hosts or not named:
        raise wrong(
            f"output_hosts={clean(repr(value), limit=120)} is no list of host names",
            'Write it like ["cdn.example.com", "*.example.org"], without scheme or path.',
        )
    return tuple(hosts)


def _whole(extra: Mapping[str, Any], name: str, wrong: Wrong) -> int | None:
    value = extra.get(name)
    if value is None:
        return None
    if not isinstance(value, bool) and re.fullmatch(r"[1-9]\d{0,5}", str(value).strip()):
        return int(value)
    raise wrong(
        f"{name}={clean(repr(value), limit=60)} is no whole number above 0", "Free accounts have 5, Pro accounts 50."
    )


def _seconds(extra: Mapping[str, Any], name: str, default: float, wrong: Wrong) -> float:
    value = extra.get(name, default)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 < number <= 1e6:
        raise wrong(f"{name}={clean(repr(value), limit=60)} is no number above 0", f"The default is {default:g}.")
    return number


def _verify(value: object, wrong: Wrong) -> bool | str:
    if value is None or value is True or value is False:
        return value is not False
    text = str(value).strip()
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    if not isinstance(value, str) or not text.startswith(("/", ".", "~")):
        raise wrong(
            f"verify={clean(repr(value), limit=60)} is neither true nor false nor the path of a CA bundle", "Mend it."
        )
    return text
