"""What every flow needs: where Segmind is, and what all jobs of one connection share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from airflow_provider_segmind.api.inputs import check_model, check_request_id
from airflow_provider_segmind.api.rate_limit import Limiter
from airflow_provider_segmind.api.redaction import clean
from airflow_provider_segmind.api.schedule import Latencies

BASE_URL = "https://api.segmind.com"
HISTORY_URL = "https://api.spotprod.segmind.com/inference-request/request-history"
STORAGE_URL = "https://workflows-api.segmind.com/upload-asset"
OUTPUT_HOSTS = ("*.segmind.com", "segmind-resources.s3.amazonaws.com")


@dataclass(frozen=True)
class Service:
    """
    One connection's Segmind.

    :param base_url: without a trailing slash or version
    :param output_hosts: hosts that result files may come from, names or ``*.name``; the base URL's comes on top
    :param max_result_bytes: no result file may be larger
    :param limiter: shared by all jobs of the connection in this process
    :param latencies: likewise
    :param clock: the wall clock, epoch seconds: deadlines outlive processes, so nothing here is monotonic
    :param jitter: a random number between its two arguments
    :param secrets: strings that never appear in a text
    """

    base_url: str = BASE_URL
    history_url: str = HISTORY_URL
    storage_url: str = STORAGE_URL
    output_hosts: tuple[str, ...] = ()
    max_result_bytes: int = 1024 * 1024 * 1024
    limiter: Limiter = field(default_factory=Limiter)
    latencies: Latencies = field(default_factory=Latencies)
    clock: Callable[[], float] = time.time
    jitter: Callable[[float, float], float] = random.uniform
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def clean(self, text: object) -> str:
        """Make a text from outside fit for logs and errors."""
        return clean(text, self.secrets)

    def model_url(self, version: str, model: str) -> str:
        """Where a job of a model is posted."""
        return f"{self.base_url}/{version}/{quote(check_model(model), safe='')}"

    def request_url(self, request_id: str) -> str:
        """Where a job's result is asked for: built here, whatever URLs an answer names."""
        return f"{self.base_url}/v2/requests/{quote(check_request_id(request_id), safe='')}"

    def record_url(self, request_id: str) -> str:
        """Where the history keeps one request."""
        return f"{self.history_url}/{quote(check_request_id(request_id), safe='')}"
