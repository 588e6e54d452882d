"""The models of the emulator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from airflow_provider_segmind.emulator.erase import encode_png, erase_foreground
from airflow_provider_segmind.emulator.input_images import InvalidInputError, open_image

MODERATED = "The request was blocked by content moderation: the image was flagged as unsafe (RAI)"


@dataclass(slots=True)
class Output:
    """
    The output of a model.

    :param pngs: images
    :param text: text
    """

    pngs: list[bytes] = field(default_factory=list)
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """
    One model.

    :param cost: the price of a completed job in USD
    :param run: computes the output from the parameters and the input image, on a worker thread
    :param needs_image: the parameter ``image`` is required
    :param unavailable: the HTTP status and error text of every request, if the model cannot be used
    :param reject: returns an error text for parameters that are rejected by the POST, not when the job runs
    """

    cost: float
    run: Callable[[Mapping[str, Any], bytes], Output] | None
    needs_image: bool = False
    unavailable: tuple[int, str] | None = None
    reject: Callable[[Mapping[str, Any]], str | None] = lambda _: None


def flag(payload: Mapping[str, Any], name: str, default: bool) -> bool:
    """
    Return a boolean parameter.

    :param payload: the request's parameters
    :param name: the parameter
    :param default: its value if it was not sent
    :raises InvalidInputError: it is not a boolean
    """
    value = payload.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name}: Input should be a valid boolean")
    return value


def _erase(payload: Mapping[str, Any], image: bytes) -> Output:
    preserve_alpha = flag(payload, "preserve_alpha", default=True)
    for side in ("visual_input_content_moderation", "visual_output_content_moderation"):
        # The emulator has no classifier: the word "blocked" in the URL marks an image as unsafe.
        if flag(payload, side, default=False) and "blocked" in str(payload["image"])[:4096]:
            raise InvalidInputError(MODERATED)
    return Output(pngs=[erase_foreground(image, preserve_alpha)])


def _describe(payload: Mapping[str, Any], image: bytes) -> Output:
    picture = open_image(image).convert("RGB")
    red, green, blue = np.asarray(picture).reshape(-1, 3).mean(axis=0)
    tint = max((red, "red"), (green, "green"), (blue, "blue"))[1]
    question = payload.get("prompt")
    answer = f"A picture of {picture.width} x {picture.height} pixels, rather {tint}."
    return Output(text=f"{question}: {answer}" if question else answer)


def _paint(payload: Mapping[str, Any], image: bytes) -> Output:  # noqa: ARG001 - the signature of all models
    prompt = payload.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise InvalidInputError("prompt: Field required")
    numbers = {name: payload.get(name, default) for name, default in _PAINT_NUMBERS.items()}
    for name, value in numbers.items():
        low, high = (1, 4) if name == "num_images" else (16, 2048)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidInputError(f"{name}: Input should be an integer from {low} to {high}")
    width, height = numbers["width"], numbers["height"]
    return Output(pngs=[_gradient(f"{prompt} {index}", width, height) for index in range(numbers["num_images"])])


def _reject_steps(payload: Mapping[str, Any]) -> str | None:
    steps = payload.get("steps", 20)
    valid = isinstance(steps, int) and not isinstance(steps, bool) and 1 <= steps <= 50
    return None if valid else "Invalid value for steps: must be an integer from 1 to 50"


_PAINT_NUMBERS = {"width": 512, "height": 512, "num_images": 1}


def _gradient(prompt: str, width: int, height: int) -> bytes:
    corners = np.frombuffer(hashlib.sha256(prompt.encode()).digest()[:12], np.uint8).reshape(2, 2, 3)
    return encode_png(np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8))


MODELS: Mapping[str, Model] = {
    "bria-erase-foreground": Model(cost=0.03, run=_erase, needs_image=True),
    "llava-v1.6": Model(cost=0.002, run=_describe, needs_image=True),
    "seedream-4.5": Model(cost=0.04, run=_paint),
    "strict-model": Model(cost=0.01, run=_paint, reject=_reject_steps),
    "sd1.5-txt2img": Model(cost=0.0, run=None, unavailable=(410, "This model has been retired")),
    "team-only-model": Model(cost=0.0, run=None, unavailable=(403, "Your account does not have access to this model")),
    "over-team-limit": Model(cost=0.0, run=None, unavailable=(406, "Your team has reached its spend limit")),
}
