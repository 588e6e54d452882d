"""The models that the emulator knows, and what they make of their parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from airflow_provider_segmind.emulator.erase import encode_png, erase_foreground
from airflow_provider_segmind.emulator.images import InputRefusedError, open_image

MODERATED = "The request was blocked by content moderation: the image was flagged as unsafe (RAI)"


@dataclass(slots=True)
class Output:
    """
    What a model made.

    :param pngs: pictures
    :param text: a text
    """

    pngs: list[bytes] = field(default_factory=list)
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """
    One model.

    :param cost: what a completed job is billed, in USD
    :param make: makes the output of the parameters and of the image that they name, on a worker thread
    :param needs_image: the parameter ``image`` is required
    :param refusal: a status and a text with which every request is answered: the model cannot be used
    :param objection: says what is wrong with parameters that are refused at once, not when the job runs
    """

    cost: float
    make: Callable[[Mapping[str, Any], bytes], Output] | None
    needs_image: bool = False
    refusal: tuple[int, str] | None = None
    objection: Callable[[Mapping[str, Any]], str | None] = lambda _: None


def flag(payload: Mapping[str, Any], name: str, default: bool) -> bool:
    """
    Return a boolean parameter, or refuse what is none.

    :param payload: the request's parameters
    :param name: the parameter
    :param default: its value when it was not sent
    """
    value = payload.get(name, default)
    if not isinstance(value, bool):
        raise InputRefusedError(f"{name}: Input should be a valid boolean")
    return value


def _erase(payload: Mapping[str, Any], image: bytes) -> Output:
    preserve_alpha = flag(payload, "preserve_alpha", default=True)
    for side in ("visual_input_content_moderation", "visual_output_content_moderation"):
        # There is no classifier here; an address that says so stands in for a picture that would be flagged.
        if flag(payload, side, default=False) and "blocked" in str(payload["image"])[:4096]:
            raise InputRefusedError(MODERATED)
    return Output(pngs=[erase_foreground(image, preserve_alpha)])


def _describe(payload: Mapping[str, Any], image: bytes) -> Output:
    picture = open_image(image).convert("RGB")
    red, green, blue = np.asarray(picture).reshape(-1, 3).mean(axis=0)
    tint = max((red, "red"), (green, "green"), (blue, "blue"))[1]
    question = payload.get("prompt")
    answer = f"A picture of {picture.width} x {picture.height} pixels, rather {tint}."
    return Output(text=f"{question}: {answer}" if question else answer)


def _paint(payload: Mapping[str, Any], image: bytes) -> Output:  # noqa: ARG001 - every model is asked alike
    prompt = payload.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise InputRefusedError("prompt: Field required")
    numbers = {name: payload.get(name, default) for name, default in _PAINT_NUMBERS.items()}
    for name, value in numbers.items():
        low, high = (1, 4) if name == "num_images" else (16, 2048)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputRefusedError(f"{name}: Input should be an integer from {low} to {high}")
    return Output(
        pngs=[
            _gradient(f"{prompt} {turn}", numbers["width"], numbers["height"]) for turn in range(numbers["num_images"])
        ]
    )


def _too_many_steps(payload: Mapping[str, Any]) -> str | None:
    steps = payload.get("steps", 20)
    good = isinstance(steps, int) and not isinstance(steps, bool) and 1 <= steps <= 50
    return None if good else "Invalid value for steps: must be an integer from 1 to 50"


_PAINT_NUMBERS = {"width": 512, "height": 512, "num_images": 1}


def _gradient(prompt: str, width: int, height: int) -> bytes:
    corners = np.frombuffer(hashlib.sha256(prompt.encode()).digest()[:12], np.uint8).reshape(2, 2, 3)
    return encode_png(np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8))


MODELS: Mapping[str, Model] = {
    "bria-erase-foreground": Model(cost=0.03, make=_erase, needs_image=True),
    "llava-v1.6": Model(cost=0.002, make=_describe, needs_image=True),
    "seedream-4.5": Model(cost=0.04, make=_paint),
    "strict-model": Model(cost=0.01, make=_paint, objection=_too_many_steps),
    "sd1.5-txt2img": Model(cost=0.0, make=None, refusal=(410, "This model has been retired")),
    "team-only-model": Model(cost=0.0, make=None, refusal=(403, "Your account does not have access to this model")),
    "over-team-limit": Model(cost=0.0, make=None, refusal=(406, "Your team has reached its spend limit")),
}
