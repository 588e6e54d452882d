"""The settings of a Segmind connection, and the proxies and CA bundles that the environment names."""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from airflow_provider_segmind.api.operation import BASE_URL, HISTORY_URL, STORAGE_URL
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.get_provider_info import EXTRA_NAMES

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)

DEFAULT_PORTS = {"http": 80, "https": 443}
_NUMBERS = ("requests_per_minute", "connect_timeout", "read_timeout", "max_result_mb")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_IPV6 = re.compile(r"[0-9a-f]*:[0-9a-f:.]+")


@dataclass(frozen=True, slots=True)
class SegmindSettings:
    """
    The validated settings of one connection, which README.md describes.

    Times are in seconds, ``max_result_mb`` is in MiB, and ``base_url`` has no trailing slash or version.
    """

    api_key: str = field(repr=False)
    base_url: str = BASE_URL
    history_url: str = HISTORY_URL
    storage_url: str = STORAGE_URL
    output_hosts: tuple[str, ...] = ()
    requests_per_minute: float | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    max_result_mb: float = 1024.0
    verify: bool | str = True
    ledger: str | None = None

    @classmethod
    def from_connection(cls, connection: Connection) -> SegmindSettings:
        """Read a connection; raise :class:`SegmindInputError` for an invalid field and warn of an unknown one."""
        conn_id = connection.conn_id or "segmind_default"
        try:
            extra = _parse_extra(connection.extra)
            base_url = _parse_base_url(connection)
            history_url, storage_url = HISTORY_URL, STORAGE_URL
            if base_url != BASE_URL:  # a proxy of the API or the emulator serves all three
                history_url = f"{base_url}/inference-request/request-history"
                storage_url = f"{base_url}/upload-asset"
            settings = cls(
                api_key=_parse_key(connection.password),
                base_url=base_url,
                history_url=_parse_url("history_url", extra.get("history_url", history_url), base_url),
                storage_url=_parse_url("storage_url", extra.get("storage_url", storage_url), base_url),
                output_hosts=_parse_hosts(extra.get("output_hosts", [])),
                verify=_parse_verify(extra.get("verify", True)),
                ledger=_parse_ledger(extra.get("ledger")),
                **{name: _parse_positive(name, extra[name]) for name in _NUMBERS if name in extra},
            )
        except SegmindInputError as invalid:
            raise SegmindInputError(f"Connection {conn_id!r}: {invalid}") from None
        for name in sorted(set(extra) - EXTRA_NAMES):
            _warn_unknown_field(conn_id, name)
        return settings


def _show(value: object) -> str:
    """Return a value for an error. Any field can hold a key that was pasted into the wrong place."""
    return redact(repr(value), limit=120)


@cache
def _warn_unknown_field(conn_id: str, name: str) -> None:
    """Warn once in this process: a triggerer reads the connection for each of a thousand triggers."""
    nearest = difflib.get_close_matches(name, EXTRA_NAMES, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    log.warning("Connection %r: the unknown extra field %s is ignored.%s", conn_id, _show(name), hint)


def _parse_key(password: str | None) -> str:
    key = (password or "").strip()
    if not key:
        raise SegmindInputError("The password is empty. Enter the Segmind API key there (segmind.com, API keys).")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SegmindInputError(
            "The password has spaces or special characters, so it is not an API key. Copy it again."
        )
    return key


def _split_url(url: str, label: str, fix: str, *, https_only: bool = False) -> SplitResult:
    """Parse a URL that the key will be sent to; ``label`` names it in errors."""
    valid = False
    with suppress(ValueError):  # an invalid port, an unbalanced bracket
        parts = urlsplit(url)
        name = parts.hostname or ""
        # urlsplit silently removes some white space, which may not be what the user meant.
        plain = "@" not in parts.netloc and not re.search(r"[\s?#]", url)
        known_host = _HOST.fullmatch(name) or _IPV6.fullmatch(name)
        valid = bool(plain and known_host and parts.scheme in DEFAULT_PORTS and parts.port != 0)
    if not valid:
        raise SegmindInputError(f"Invalid {label}. {fix}")
    if parts.scheme == "http" and (https_only or f".{name}".endswith(".segmind.com")):
        raise SegmindInputError(f"{label} would send the API key unencrypted. Use https.")
    return parts


def _parse_base_url(connection: Connection) -> str:
    host = (connection.host or "").strip()
    fix = f"Use a host name or a URL such as 'https://host:8443', or leave the host empty for {BASE_URL}."
    # In the URI form the schema is the path: "segmind://:key@host/http", "segmind://:key@host/v2". The scheme of the
    # URI itself ("segmind") does not say which one the API is served over.
    scheme = re.sub(r"/?\bv[12]/?$", "", (connection.schema or "").strip().lower()) or "https"
    if scheme not in DEFAULT_PORTS:
        raise SegmindInputError(f"Invalid schema {_show(connection.schema)}. Use http or https, or leave it empty.")
    if not host:
        if connection.port:
            raise SegmindInputError(f"The port {connection.port} has no host. {fix}")
        return BASE_URL
    if connection.port and not 0 < int(connection.port) < 65_536:
        raise SegmindInputError(f"Invalid port {connection.port}. Use a number from 1 to 65535.")
    label = f"host {_show(host)}"
    parts = _split_url(host if "://" in host else f"{scheme}://{host}", label, fix)
    if parts.path.rstrip("/") not in ("", "/v1", "/v2"):
        raise SegmindInputError(f"Invalid path {_show(parts.path)} in {label}. Only /v1 or /v2 may follow. {fix}")
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or connection.port or DEFAULT_PORTS[parts.scheme]
    return f"{parts.scheme}://{name}:{port}".removesuffix(f":{DEFAULT_PORTS[parts.scheme]}")


def _parse_extra(text: str | None) -> dict[str, Any]:
    """Return the fields of the extra that have a value."""
    try:
        extra = json.loads(text or "{}") or {}
    except (TypeError, ValueError):
        extra = None
    if not isinstance(extra, dict):
        raise SegmindInputError('The extra is not a JSON object. Write it like {"requests_per_minute": 50}.')
    return {name: value for name, value in extra.items() if value not in (None, "")}


def _parse_url(name: str, value: object, base_url: str) -> str:
    url = str(value)
    fix = "Use a complete URL without user and query."
    _split_url(url, f"{name} {_show(value)}", fix, https_only=base_url.startswith("https:"))
    return url.rstrip("/")


def _parse_hosts(value: object) -> tuple[str, ...]:
    """Read a list of hosts: a JSON list, or, in the URI form, text with commas."""
    listed: Any = value
    if isinstance(value, str):
        with suppress(ValueError):
            listed = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
    if isinstance(listed, list) and all(isinstance(host, str) for host in listed):
        hosts = tuple(re.sub(r":\d+$", "", host.strip().lower()) for host in listed)
        if all(_HOST.fullmatch(host.removeprefix("*.")) for host in hosts):
            return hosts
    raise SegmindInputError(
        f"Invalid output_hosts {_show(value)}. Use a list of host names without scheme and path, such as "
        '["cdn.example.com", "*.example.org"].'
    )


def _parse_positive(name: str, value: Any) -> float:
    """Read a number above 0, which may be written as text."""
    number = math.nan
    if not isinstance(value, bool):
        with suppress(TypeError, ValueError, OverflowError):
            number = float(value)
    if not 0 < number < math.inf:
        raise SegmindInputError(f"Invalid {name} {_show(value)}. Use a number above 0, or omit it.")
    return number


def _parse_ledger(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise SegmindInputError(f"Invalid ledger {_show(value)}. Use a location such as 's3://bucket/prefix/'.")


def _parse_verify(value: object) -> bool | str:
    text = str(value).strip()
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    reason = ""
    if text.startswith(("/", ".", "~")):
        try:
            path = str(Path(text).expanduser())
            load_ca_bundle(path)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: "~name" of an unknown user
            reason = f" ({redact(error, limit=120)})"
        else:
            return path
    raise SegmindInputError(
        f"Invalid verify {_show(value)}{reason}. Use true, false, or the path of a PEM file with CA certificates, "
        "beginning with '/', '.' or '~'."
    )


@cache
def load_ca_bundle(path: str) -> ssl.SSLContext:
    """Return a TLS context that trusts a PEM file or a directory with hashed names; made once, as it costs 20 ms."""
    if not Path(path).is_dir():
        return ssl.create_default_context(cafile=path)
    if not any(Path(path).glob("[0-9a-f]" * 8 + ".[0-9]")):  # OpenSSL takes any directory, and then trusts nothing
        raise OSError("the directory holds no hashed certificates")
    return ssl.create_default_context(capath=path)


CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # the first one that is set counts


def find_ca_bundle(verify: bool | str) -> ssl.SSLContext | None:
    """Return a TLS context with the CA bundle of a connection's ``verify``, or else of the environment, if any."""
    if isinstance(verify, str):
        return load_ca_bundle(verify)
    for variable in CA_VARIABLES:
        if verify and (path := os.environ.get(variable)):
            try:
                return load_ca_bundle(path)
            except (OSError, ValueError) as error:
                raise SegmindInputError(
                    f"{variable} names {_show(path)}, which is not a readable CA bundle ({redact(error, limit=120)}). "
                    "Set it to a PEM file with CA certificates, or unset it."
                ) from None
    return None


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and the environment variable that names it. Its text does not show the user and password of the URL."""

    variable: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        return f"{redact(self.url, limit=120)} of {self.variable}"


def find_proxy(scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy that the environment names for a host; ``None``, as for loopback hosts: connect directly."""
    found = getproxies()  # lower case comes first; on macOS and Windows the system's settings count too
    kind = scheme if found.get(scheme) else "all"
    url = found.get(kind)
    host = host.lower().rstrip(".")
    address: IPv4Address | IPv6Address | None = None
    with suppress(ValueError):  # the host is a name
        address = ip_address(host)
    loopback = address.is_loopback if address else f".{host}".endswith(".localhost")
    exceptions = re.split(r"[\s,]+", found.get("no", "").lower())
    if not url or loopback or any(_matches(entry, host, address, port) for entry in exceptions):
        return None
    variable = f"{kind}_proxy" if f"{kind}_proxy" in os.environ else f"{kind.upper()}_PROXY"
    proxy = Proxy(variable, url if "://" in url else f"http://{url}")
    schemes = ("http", "https", "socks5", "socks5h") if find_spec("socksio") else ("http", "https")
    try:
        parts = urlsplit(proxy.url)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SegmindInputError(
            f"Cannot use the proxy {proxy}. Use a URL such as 'http://proxy.example.com:3128', or, for a SOCKS proxy, "
            "install httpx[socks] (the package socksio)."
        )
    return proxy


_WITH_PORT = re.compile(r"(\[.*\]|[^:]*):(\d+)")


def _matches(entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    """
    Return whether an entry of ``NO_PROXY`` covers a host: ``*``, a name and its subdomains, an address, or a range.

    Names are not resolved to match a range. As for curl, an entry that is none of these matches nothing.
    """
    entry = entry.rpartition("://")[2]
    if with_port := _WITH_PORT.fullmatch(entry):
        if int(with_port[2]) != port:
            return False
        entry = with_port[1]
    if entry == "*":
        return True
    try:
        network = ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:  # a name
        name = entry.removeprefix("*").strip(".")
        return bool(name) and f".{host}".endswith(f".{name}")
    return address is not None and address in network
