"""The emulated Segmind as a process."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx

from demo.process import Process
from demo.stack import Stack

KEY = "SG_5d41402abc4b2a76"  # not a key of any account


class Emulator:
    """
    ``python -m airflow_provider_segmind.emulator`` on a free port, with its jobs in the stack's folder.

    :param stack: where it runs
    :param name: the name of its process and its folder
    :param options: its options, with underscores
    """

    def __init__(self, stack: Stack, name: str = "emulator", **options: Any) -> None:
        defaults: dict[str, Any] = {"port": 0, "key": KEY, "data_dir": stack.scratch / name}
        options = defaults | options
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.key: str = options["key"]
        self.process: Process = stack.start(name, [sys.executable, "-m", "airflow_provider_segmind.emulator", *flags])
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Its address; waits until it is there."""
        if self._url is None:
            self._url = self.process.wait_for_line(r"Segmind emulator at (\S+)", timeout=60)[1]
        return self._url

    @property
    def connection(self) -> str:
        """The Airflow connection, as JSON."""
        return json.dumps({"conn_type": "segmind", "host": self.url, "password": self.key})

    def requests(self) -> dict[str, Any]:
        """Return what was asked of it: ``counts`` by kind, and a ``log``."""
        return self._get("requests")

    def jobs(self) -> dict[str, Any]:
        """Return the accepted jobs, what they cost, and how often each image was submitted."""
        return self._get("jobs")

    def _get(self, what: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/emulator/{what}", timeout=10, trust_env=False)
        answer.raise_for_status()
        value: dict[str, Any] = answer.json()
        return value
