"""The emulator's options, the same on the command line and in Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _option(default: Any, description: str) -> Any:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    The emulator's options; their descriptions are also the command line's help.

    :raises ValueError: an option is out of range
    """

    host: str = _option("127.0.0.1", "address to listen on")
    port: int = _option(0, "port to listen on; 0 picks a free one")
    key: str | None = _option(None, "the only API key that is accepted (default: any)")
    job_seconds: float = _option(11.97, "median time from a submit to its result")
    job_sigma: float = _option(0.15, "spread of the job times (sigma of a lognormal distribution); 0 makes them equal")
    requests_per_minute: int | None = _option(None, "rate limit (default: none)")
    rate_window: float = _option(60.0, "length of a rate limit window in seconds")
    record_seconds: float = _option(3600.0, "how long the record of a finished request is kept")
    file_seconds: float = _option(7 * 86400.0, "how long a result file is served")
    history_delay: float = _option(0.0, "seconds until a request appears in the request history")
    credits: float = _option(100.0, "balance of the account at the start in USD")
    max_image_mb: float = _option(30.0, "jobs with a larger input image fail")
    seed: int | None = _option(None, "makes the job times repeatable (default: they are not)")
    data_dir: Path | str | None = field(
        default=None,
        metadata={"description": "folder that keeps jobs and files across restarts (default: a temporary one)"},
    )

    def __post_init__(self) -> None:
        for name in ("job_seconds", "job_sigma", "record_seconds", "file_seconds", "history_delay", "credits"):
            if getattr(self, name) < 0:
                raise ValueError(f"Invalid {name} {getattr(self, name)!r}. Use 0 or more.")
        for name in ("rate_window", "max_image_mb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"Invalid {name} {getattr(self, name)!r}. Use a number above 0.")
        if self.requests_per_minute is not None and self.requests_per_minute < 1:
            raise ValueError(f"Invalid requests_per_minute {self.requests_per_minute!r}. Use 1 or more.")
        if self.key == "":
            raise ValueError("Invalid key ''. Leave it out to accept any key.")
