"""Running the jobs: fetch the image, make the result, end when the time is over."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from airflow_provider_segmind.emulator.images import Fetcher, InputRefusedError
from airflow_provider_segmind.emulator.jobs import (
    Job,
    JobStore,
    Plan,
    image_identity,
    matchable_text,
    new_request_id,
)
from airflow_provider_segmind.emulator.models import MODELS, Output
from airflow_provider_segmind.emulator.settings import Settings

log = logging.getLogger(__name__)

FETCHES_AT_A_TIME = 16
REFUSED_SHARE = 0.2  # a job that its input spoils ends sooner than one that is computed


class Workshop:
    """
    Accepts jobs and sees them through; must be used on the server's event loop.

    :param settings: the emulator's options
    :param folder: where jobs and files are kept
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self.store = JobStore(folder)
        self._fetcher = Fetcher(round(settings.max_image_mb * 1_000_000))
        self._fetching = asyncio.Semaphore(FETCHES_AT_A_TIME)
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="segmind-emulator")
        self._running: dict[str, asyncio.Task[None]] = {}
        # Without a seed each life draws other times; with one the n-th job takes as long in each.
        self._seed = settings.seed if settings.seed is not None else random.getrandbits(64)

    @property
    def balance(self) -> float:
        """What is left of the account's credits."""
        return round(self._settings.credits - self.store.spent(), 6)

    def resume(self) -> None:
        """Go on with the jobs that an earlier life left unfinished."""
        for job in self.store.all():
            if job.finished is None:
                self._start(job, self.store.request_body(job.request_id))

    def accept(self, model: str, payload: dict[str, Any], raw: bytes, via: str, plan: Plan) -> Job:
        """
        Accept a request: from here on it costs, whatever becomes of the answer.

        :param model: a known model
        :param payload: its parameters
        :param raw: the body as it came
        :param via: ``v1`` or ``v2``
        :param plan: what faults decided about it
        """
        now, number = time.time(), len(self.store)
        late = self._settings.history_delay if plan.history_delay is None else plan.history_delay
        job = Job(
            request_id=new_request_id(),
            number=number,
            model=model,
            via=via,
            image=image_identity(payload),
            source=matchable_text(payload),
            body_sha256=hashlib.sha256(raw).hexdigest(),
            created=now,
            seconds=self._draw(number) if plan.seconds is None else plan.seconds,
            listed=now + late,
            planned_error=plan.error,
        )
        self.store.add(job, payload)
        self._start(job, payload)
        return job

    def _draw(self, number: int) -> float:
        spread = random.Random(f"{self._seed}:{number}").gauss(0, 1)  # noqa: S311 - job times are no secret
        return float(self._settings.job_seconds * 2.718281828459045 ** (self._settings.job_sigma * spread))

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
            except InputRefusedError as refusal:
                error = str(refusal)
            except Exception:  # whatever breaks here, the service would say FAILED and go on
                log.exception("A job of the emulator broke: %s", job.request_id)
                error = "Internal error while the model was running"
        share = 1 if error is None else REFUSED_SHARE
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
                raise InputRefusedError("image: Field required")
            async with self._fetching:
                image = await self._fetcher.read(source)
        assert model.make is not None, "a model that is refused has no jobs"  # noqa: S101
        return await asyncio.get_running_loop().run_in_executor(self._pool, model.make, payload, image)

    def _write(self, job: Job, output: Output) -> list[str]:
        names = []
        for number, png in enumerate(output.pngs, 1):
            name = f"{job.request_id}.png" if number == 1 else f"{job.request_id}-{number}.png"
            unfinished = self.store.files / f"{name}.part"
            unfinished.write_bytes(png)
            unfinished.replace(self.store.files / name)  # a kill leaves no half file behind
            names.append(name)
        return names

    async def close(self) -> None:
        """Stop at once; what is unfinished goes on in the next life on the same folder."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        await self._fetcher.close()
        self.store.close()
