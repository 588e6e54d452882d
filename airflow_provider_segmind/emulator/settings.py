"""What can be set about the emulated service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    The emulator's options, the same on the command line and in Python.

    :param host: the address to listen on
    :param port: the port to listen on; 0 picks a free one
    :param key: the only API key that is accepted; without it any key will do
    :param job_seconds: the median time from a submit to its result
    :param job_sigma: how far job times spread (sigma of a lognormal distribution); 0 makes them all equal
    :param requests_per_minute: the account's rate limit; without it there is none
    :param rate_window: the seconds that one "minute" of the rate limit lasts
    :param record_seconds: how long a finished request is known before its id is a 404
    :param file_seconds: how long a result file is served
    :param history_delay: how late a request appears in the request history
    :param credits: the balance of the account at the start, in USD
    :param max_image_mb: a larger input image makes its job fail
    :param seed: makes the job times repeatable
    :param data_dir: where jobs and files are kept; a restart on the same folder goes on where the last one stopped.
        Without it a temporary folder that is removed on exit
    """

    host: str = "127.0.0.1"
    port: int = 0
    key: str | None = None
    job_seconds: float = 11.97
    job_sigma: float = 0.15
    requests_per_minute: int | None = None
    rate_window: float = 60.0
    record_seconds: float = 3600.0
    file_seconds: float = 7 * 86400.0
    history_delay: float = 0.0
    credits: float = 100.0
    max_image_mb: float = 30.0
    seed: int | None = None
    data_dir: Path | str | None = None

    def __post_init__(self) -> None:
        for name in ("job_seconds", "job_sigma", "record_seconds", "file_seconds", "history_delay", "credits"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, it is {getattr(self, name)!r}")
        if self.requests_per_minute is not None and self.requests_per_minute < 1:
            raise ValueError(f"requests_per_minute must be at least 1, it is {self.requests_per_minute!r}")
        if self.rate_window <= 0 or self.max_image_mb <= 0:
            raise ValueError("rate_window and max_image_mb must be greater than 0")
        if self.key == "":
            raise ValueError("key must not be empty; leave it out to accept any key")
