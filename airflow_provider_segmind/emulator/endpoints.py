"""The endpoints of the gateway, of the file hosts and of the storage."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from airflow_provider_segmind.emulator.file_types import extension_for, media_type_for
from airflow_provider_segmind.emulator.http_messages import EmulatorRequest
from airflow_provider_segmind.emulator.input_images import InvalidInputError, decode_inline
from airflow_provider_segmind.emulator.job_runner import JobRunner
from airflow_provider_segmind.emulator.jobs import Job
from airflow_provider_segmind.emulator.models import MODELS
from airflow_provider_segmind.emulator.settings import Settings


def error_response(status: int, text: str) -> JSONResponse:
    """
    Return an error in the gateway's envelope.

    :param status: the HTTP status
    :param text: the error text
    """
    return JSONResponse({"error": text}, status)


def _no_such_file() -> Response:
    """Return a 404 as an S3 file host sends it, in XML."""
    page = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>'
    return Response(page, 404, media_type="application/xml")


def base_url(request: Request) -> str:
    """
    Return the base URL that the client used.

    :param request: any request
    """
    return str(request.base_url).rstrip("/")


def output_url(request: Request, name: str) -> str:
    """
    Return the public URL of a result file.

    :param request: any request
    :param name: the file's name
    """
    return f"{base_url(request)}/generations/{name}"


class Endpoints:
    """
    The endpoints of the API; the gateway has checked the key and the rate limit before.

    :param settings: the emulator's options
    :param runner: runs the jobs
    :param folder: contains the folder of the uploaded assets
    """

    def __init__(self, settings: Settings, runner: JobRunner, folder: Path) -> None:
        self._settings = settings
        self._runner = runner
        self._assets = folder / "assets"
        self._assets.mkdir(exist_ok=True)

    def _accept(self, request: Request, via: str) -> Job | Response:
        """Accept a job, or return the error response."""
        submit: EmulatorRequest = request.scope["emulator.request"]
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return error_response(406, "Not acceptable: the Content-Type must be application/json")
        if not isinstance(submit.payload, dict):
            return error_response(400, "The request body must be a JSON object")
        model = MODELS.get(submit.model or "")
        if model is None:
            return error_response(404, f"Model not found: {submit.model}")
        if model.unavailable is not None:
            return error_response(*model.unavailable)
        if (text := model.reject(submit.payload)) is not None:
            return error_response(406, text)
        if (balance := self._runner.balance) < model.cost:
            return error_response(406, f"Insufficient credits. Your balance is ${balance:.4f}")
        return self._runner.accept(str(submit.model), submit.payload, submit.raw, via, submit.plan)

    async def submit(self, request: Request) -> Response:
        """``POST /v2/{model}``."""
        job = self._accept(request, "v2")
        if isinstance(job, Response):
            return job
        base, request_id = base_url(request), job.request_id
        return JSONResponse(
            {
                "request_id": request_id,
                "status": "QUEUED",
                "poll_url": f"{base}/v1/requests/{request_id}",
                "status_url": f"{base}/v2/requests/{request_id}/status",
                "response_url": f"{base}/v2/requests/{request_id}",
            }
        )

    async def sync(self, request: Request) -> Response:
        """``POST /v1/{model}``."""
        job = self._accept(request, "v1")
        if isinstance(job, Response):
            return job
        await self._runner.wait(job)
        if job.error is not None:
            return error_response(500 if job.planned_error else 400, job.error)
        headers = {
            "x-request-id": job.request_id,
            "x-cost": str(job.cost),
            "x-remaining-credits": str(job.remaining_credits),
            "x-generation-time": str(job.times()["inference_time"]),
        }
        if not job.files:
            return JSONResponse({"output": job.text}, headers=headers)
        return FileResponse(self._runner.store.files / job.files[0], headers=headers)

    def _polled_job(self, request: Request) -> Job | Response:
        """Return the job that a poll is about, or the error response if it is FAILED, unknown or expired."""
        job: Job | None = request.scope["emulator.request"].job
        now = time.time()
        if (
            job is None
            or job.record_gone
            or (job.finished is not None and now >= job.finished + self._settings.record_seconds)
        ):
            return error_response(404, "Request not found")
        if job.state(now) == "FAILED":
            return JSONResponse({"status": "FAILED", "error": job.error, "metrics": job.times()}, 422)
        return job

    def _metrics(self, job: Job) -> dict[str, float | int | None]:
        if job.finished is None:
            return {}
        accounting = {"cost": job.cost, "remaining_credits": job.remaining_credits, "retry_count": 0}
        return {**job.times(), **accounting}

    async def status(self, request: Request) -> Response:
        """``GET /v2/requests/{id}/status``."""
        job = self._polled_job(request)
        if isinstance(job, Response):
            return job
        state = job.state(time.time())
        return JSONResponse({"status": state, "request_id": job.request_id, "metrics": self._metrics(job)})

    async def result(self, request: Request) -> Response:
        """``GET /v2/requests/{id}`` and ``GET /v1/requests/{id}``."""
        job = self._polled_job(request)
        if isinstance(job, Response):
            return job
        body = {"status": job.state(time.time()), "error": None, "metrics": self._metrics(job)}
        if job.finished is None:
            return JSONResponse(body)
        if not job.files:
            return JSONResponse({**body, "output": job.text})
        images = [
            {
                "url": output_url(request, name),
                "content_type": "image/png",
                "file_name": name,
                "file_size": (self._runner.store.files / name).stat().st_size,
            }
            for name in job.files
        ]
        return JSONResponse({**body, "images": images, "output": images[0]["url"]})

    async def file(self, request: Request) -> Response:
        """``GET /generations/{name}``: public, without a key."""
        job, name = request.scope["emulator.request"].job, request.path_params["name"]
        if job is None or job.files_gone or time.time() >= job.finished + self._settings.file_seconds:
            return _no_such_file()
        if request.method == "GET":
            job.downloads[name] = job.downloads.get(name, 0) + 1
            self._runner.store.save(job)
        return FileResponse(self._runner.store.files / name, media_type="image/png")

    async def credits(self, request: Request) -> Response:  # noqa: ARG002 - the signature of all endpoints
        """``GET /v1/get-user-credits``."""
        return JSONResponse({"credits": self._runner.balance})

    async def upload(self, request: Request) -> Response:
        """``POST /upload-asset``."""
        payload = request.scope["emulator.request"].payload
        sources = payload.get("data_urls") if isinstance(payload, dict) else None
        if not isinstance(sources, list) or not sources:
            return error_response(400, "data_urls must be a list of data URLs")
        contents = []
        for source in sources:
            if not isinstance(source, str) or not source.startswith("data:"):
                return error_response(400, "data_urls must be a list of data URLs")
            try:
                contents.append((source[5:].partition(";")[0], decode_inline(source)))
            except InvalidInputError as error:
                return error_response(400, str(error))
        urls = []
        for media_type, content in contents:
            name = f"{uuid.uuid4()}{extension_for(media_type, content)}"
            (self._assets / name).write_bytes(content)
            urls.append(f"{base_url(request)}/assets/{name}")
        return JSONResponse({"file_urls": urls, "message": "Files uploaded successfully"})

    async def asset(self, request: Request) -> Response:
        """``GET /assets/{name}``: public, without a key."""
        path = self._assets / request.path_params["name"]
        if path.parent != self._assets or not path.is_file():
            return _no_such_file()
        return FileResponse(path, media_type=media_type_for(path.name))
