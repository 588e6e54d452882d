"""Run the jobs: fetch the image, compute the result, finish when the job's time is over."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from airflow_provider_segmind.emulator.input_images import Fetcher, InvalidInputError
from airflow_provider_segmind.emulator.jobs import (
    Job,
    JobPlan,
    JobStore,
    image_identity,
    matchable_text,
    new_request_id,
)
from airflow_provider_segmind.emulator.models import MODELS, Output
from airflow_provider_segmind.emulator.settings import Settings

log = logging.getLogger(__name__)

CONCURRENT_FETCHES = 16
FAILED_SHARE = 0.2  # a job that fails takes this share of its time


class JobRunner:
    """
    Accepts and runs jobs; must be used on the server's event loop.

    :param settings: the emulator's options
    :param folder: where jobs and files are kept
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self.store = JobStore(folder)
        self._fetcher = Fetcher(round(settings.max_image_mb * 1_000_000))
        self._fetching = asyncio.Semaphore(CONCURRENT_FETCHES)
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="segmind-emulator")
        self._running: dict[str, asyncio.Task[None]] = {}
        # With a seed, the n-th job takes equally long after each start; without one, times differ.
        self._seed = settings.seed if settings.seed is not None else random.getrandbits(64)

    @property
    def balance(self) -> float:
        """The account's balance in USD."""
        return round(self._settings.credits - self.store.spent(), 6)

    def resume(self) -> None:
        """Continue the jobs that were unfinished when the emulator last stopped."""
        for job in self.store.all():
            if job.finished is None:
                self._start(job, self.store.request_body(job.request_id))

    def accept(self, model: str, payload: dict[str, Any], raw: bytes, via: str, plan: JobPlan) -> Job:
        """
        Accept a job. It is billed when it completes, even if the response to its POST is lost.

        :param model: a known model
        :param payload: its parameters
        :param raw: the request's body as received
        :param via: ``v1`` or ``v2``
        :param plan: what faults have decided about it
        """
        now, number = time.time(), len(self.store)
        delay = self._settings.history_delay if plan.history_delay is None else plan.history_delay
        job = Job(
            request_id=new_request_id(),
            number=number,
            model=model,
            via=via,
            image=image_identity(payload),
            source=matchable_text(payload),
            body_sha256=hashlib.sha256(raw).hexdigest(),
            created=now,
            seconds=self._draw_seconds(number) if plan.seconds is None else plan.seconds,
            listed=now + delay,
            planned_error=plan.error,
        )
        self.store.add(job, payload)
        self._start(job, payload)
        return job

    def _draw_seconds(self, number: int) -> float:
        spread = random.Random(f"{self._seed}:{number}").gauss(0, 1)  # noqa: S311 - not a secret
        return self._settings.job_seconds * math.exp(self._settings.job_sigma * spread)

    def _start(self, job: Job, payload: dict[str, Any]) -> None:
        self._running[job.request_id] = asyncio.create_task(self._run(job, payload))

    async def wait(self, job: Job) -> None:
        """
        Return when the job has ended.

        :param job: an accepted job
        """
        if (task := self._running.get(job.request_id)) is not None:
            await asyncio.shield(task)

    async def _run(self, job: Job, payload: dict[str, Any]) -> None:
        output, error = Output(), job.planned_error
        if error is None:
            try:
                output = await self._make(job, payload)
            except InvalidInputError as invalid:
                error = str(invalid)
            except Exception:  # the service, too, reports FAILED and keeps running
                log.exception("Job %s of the emulator raised an unexpected error", job.request_id)
                error = "Internal error while the model was running"
        share = 1 if error is None else FAILED_SHARE
        await asyncio.sleep(max(0.0, job.created + job.seconds * share - time.time()))
        if error is None:
            job.files, job.text = await asyncio.to_thread(self._write, job, output), output.text
            self.store.bill(job, MODELS[job.model].cost, self._settings.credits)
        job.finished, job.error = time.time(), error
        self.store.save(job)
        del self._running[job.request_id]

    async def _make(self, job: Job, payload: dict[str, Any]) -> Output:
        model, image = MODELS[job.model], b""
        if model.needs_image:
            source = payload.get("image")
            if not isinstance(source, str) or not source:
                raise InvalidInputError("image: Field required")
            async with self._fetching:
                image = await self._fetcher.read(source)
        assert model.run is not None, "unavailable models have no jobs"  # noqa: S101
        return await asyncio.get_running_loop().run_in_executor(self._pool, model.run, payload, image)

    def _write(self, job: Job, output: Output) -> list[str]:
        names = []
        for number, png in enumerate(output.pngs, 1):
            name = f"{job.request_id}.png" if number == 1 else f"{job.request_id}-{number}.png"
            unfinished = self.store.files / f"{name}.part"
            unfinished.write_bytes(png)
            unfinished.replace(self.store.files / name)  # a crash must not leave a partial file under this name
            names.append(name)
        return names

    async def close(self) -> None:
        """Stop immediately; unfinished jobs continue at the next start with the same folder."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        await self._fetcher.close()
        self.store.close()
