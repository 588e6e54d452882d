"""The emulator of Segmind as a process."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx

from demo.process import Process
from demo.stack import Stack

KEY = "SG_5d41402abc4b2a76"  # an invented key


class Emulator:
    """
    ``python -m airflow_provider_segmind.emulator`` on a free port, with its data in the folder of the stack.

    :param stack: the stack in which it runs
    :param name: the name of its process and of its folder
    :param options: command-line options, with underscores
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
        """The base URL. Waits until the emulator has started."""
        if self._url is None:
            self._url = self.process.wait_for_line(r"Segmind emulator at (\S+)", timeout=60)[1]
        return self._url

    @property
    def connection(self) -> str:
        """An Airflow connection to it, as JSON."""
        return json.dumps({"conn_type": "segmind", "host": self.url, "password": self.key})

    def requests(self) -> dict[str, Any]:
        """Return the requests it received: ``counts`` by kind, and a ``log``."""
        return self._get("requests")

    def jobs(self) -> dict[str, Any]:
        """Return the accepted jobs, their cost, and how often each image was submitted."""
        return self._get("jobs")

    def _get(self, what: str) -> dict[str, Any]:
        response = httpx.get(f"{self.url}/emulator/{what}", timeout=10, trust_env=False)
        response.raise_for_status()
        value: dict[str, Any] = response.json()
        return value
