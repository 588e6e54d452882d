"""Bria's models at Segmind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_segmind.api.models import check_choice
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.source import ImageDelivery, ImageSource, deliver_image, parse_image
from airflow_provider_segmind.operators.job import SegmindJobOperator, Upload, known_at_parse

_FLAGS = ("preserve_alpha", "visual_input_content_moderation", "visual_output_content_moderation")


class BriaEraseForegroundOperator(SegmindJobOperator):
    """
    Remove the foreground subject of a photo and regenerate the background (Segmind's ``bria-erase-foreground``).

    Returns the facts of the job (XCom): ``request_id``, ``model``, ``status``, ``image``, ``output_url``, ``uri``,
    ``content_type``, ``size``, ``sha256``, ``width``, ``height`` and ``metrics``; never image data or signed URLs.

    :param image: the photo (JPEG, PNG, WEBP; templated): an ``https://`` URL; ``s3://bucket/key``, given to Segmind as
        a presigned URL; a local path, ``file://`` or ``ObjectStoragePath``; a data URI or Base64
    :param image_delivery: ``"auto"``: URLs and S3 as a URL, the rest inline; ``"inline"``: the worker reads and sends
        it as Base64; ``"upload"``: through Segmind's storage, where it cannot be deleted
    :param preserve_alpha: keep transparency; ``False`` for opaque output (templated)
    :param visual_input_content_moderation: let Segmind moderate the photo (templated)
    :param visual_output_content_moderation: let Segmind moderate the result (templated)
    :param kwargs: see :class:`~airflow_provider_segmind.operators.job.SegmindJobOperator`
    """

    template_fields: Sequence[str] = ("image", "destination", *_FLAGS)
    model = "bria-erase-foreground"
    must_be_image = True

    def __init__(
        self,
        *,
        image: Any,
        image_delivery: ImageDelivery = "auto",
        preserve_alpha: bool | str = True,
        visual_input_content_moderation: bool | str = False,
        visual_output_content_moderation: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("image_delivery", image_delivery, ImageDelivery)
        if known_at_parse(image):
            parse_image(image)
        self.image = image
        self.image_delivery = image_delivery
        self.preserve_alpha = preserve_alpha
        self.visual_input_content_moderation = visual_input_content_moderation
        self.visual_output_content_moderation = visual_output_content_moderation
        for name in _FLAGS:
            if known_at_parse(getattr(self, name)):
                _boolean(name, getattr(self, name))

    def job_model(self) -> str:
        """Return the model's slug."""
        return self.model

    def job_inputs(self) -> Mapping[str, Any]:
        """Return the image's identity and the flags."""
        return {"image": parse_image(self.image).identity, **self._flags()}

    def job_payload(self, upload: Upload, valid_for: float) -> Mapping[str, Any]:
        """Return the image as Segmind is to get it, and the flags."""
        image = deliver_image(
            parse_image(self.image),
            delivery=self.image_delivery,
            aws_conn_id=self.aws_conn_id,
            valid_for=valid_for,
            upload=upload,
        )
        return {"image": image, **self._flags()}

    def job_source(self) -> ImageSource:
        """Return the image."""
        return parse_image(self.image)

    def _flags(self) -> dict[str, bool]:
        return {name: _boolean(name, getattr(self, name)) for name in _FLAGS}


def _boolean(name: str, value: object) -> bool:
    """Read a boolean, also as a template renders it."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    word = str(value).strip().lower()
    if word not in known:
        raise SegmindInputError(f"{name}={value!r} is neither true nor false: give one of them.")
    return known[word]
