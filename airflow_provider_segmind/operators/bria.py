"""Bria's models at Segmind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_segmind.api.models import check_choice
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.naming import NameTemplate
from airflow_provider_segmind.files.source import ImageDelivery, parse_image
from airflow_provider_segmind.operators.batch import SegmindBatchOperator
from airflow_provider_segmind.operators.job import SegmindJobOperator

if TYPE_CHECKING:
    from airflow_provider_segmind.files.destination import Destination
    from airflow_provider_segmind.jobs.batch_plan import BatchItem, Inputs
    from airflow_provider_segmind.jobs.delivery import JobDescription

_FLAGS = ("preserve_alpha", "visual_input_content_moderation", "visual_output_content_moderation")


class BriaEraseForegroundOperator(SegmindJobOperator):
    """
    Remove the foreground subject of a photo and regenerate the background (Segmind's ``bria-erase-foreground``).

    Returns the facts of the job (XCom): ``request_id``, ``model``, ``status``, ``image``, ``output_url``,
    ``output_urls``, ``uri``, ``content_type``, ``size``, ``sha256``, ``width``, ``height``, ``image_width``,
    ``image_height`` and ``metrics``; never image data or signed URLs.

    :param image: the photo (JPEG, PNG, WEBP; templated): an ``https://`` URL; ``s3://bucket/key``, given to Segmind as
        a presigned URL; a local path, ``file://`` or ``ObjectStoragePath``; a data URI or Base64
    :param image_delivery: ``"auto"``: URLs and S3 as a URL, the rest inline; ``"inline"``: the worker reads the image
        and sends it as Base64, up to 7 MiB; ``"upload"``: through Segmind's storage, where it cannot be deleted
    :param preserve_alpha: keep transparency; ``False`` for opaque output (templated)
    :param visual_input_content_moderation: let Segmind moderate the photo (templated)
    :param visual_output_content_moderation: let Segmind moderate the result (templated)
    :param kwargs: see :class:`~airflow_provider_segmind.operators.base.SegmindOperator`
    """

    template_fields: Sequence[str] = ("image", *_FLAGS, *SegmindJobOperator.template_fields)
    model = "bria-erase-foreground"

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
        self.image = image
        self.image_delivery = image_delivery
        self.preserve_alpha = preserve_alpha
        self.visual_input_content_moderation = visual_input_content_moderation
        self.visual_output_content_moderation = visual_output_content_moderation
        self._check("image", lambda _, value: parse_image(value))
        for name in _FLAGS:
            self._check(name, _boolean)

    def describe_job(self) -> JobDescription:
        """Return what to run."""
        from airflow_provider_segmind.jobs.descriptions import describe_image_job

        return describe_image_job(
            self.model,
            self.image,
            {name: _boolean(name, getattr(self, name)) for name in _FLAGS},
            image_delivery=self.image_delivery,
            **self.job_options(),
        )


class BriaEraseForegroundBatchOperator(SegmindBatchOperator):
    """
    Remove the foreground subject of many photos, in one task (Segmind's ``bria-erase-foreground``).

    Returns a summary and leaves a manifest; see
    :class:`~airflow_provider_segmind.operators.batch.SegmindBatchOperator`.

    :param images: the photos (JPEG, PNG, WEBP; templated): a list, as from an upstream task, of whatever
        :class:`BriaEraseForegroundOperator` takes as its ``image``; a prefix that ends in ``/`` or a glob, such as
        ``s3://bucket/in/**/*.jpg``, of S3, another object store or a local folder; or a list file: ``.txt``, ``.csv``
        with a column ``image``, S3 Inventory's CSV, ``.jsonl`` with ``source``, as an earlier run's ``failed.jsonl``
    :param destination: a prefix, which ends in ``/`` (templated)
    :param image_delivery: see :class:`BriaEraseForegroundOperator`
    :param preserve_alpha: keep transparency; ``False`` for opaque output (templated)
    :param visual_input_content_moderation: let Segmind moderate the photos (templated)
    :param visual_output_content_moderation: let Segmind moderate the results (templated)
    :param kwargs: see :class:`~airflow_provider_segmind.operators.batch.SegmindBatchOperator`
    """

    template_fields: Sequence[str] = ("images", *_FLAGS, *SegmindBatchOperator.template_fields)
    batch_model = BriaEraseForegroundOperator.model

    def __init__(
        self,
        *,
        images: Any,
        destination: Any,
        image_delivery: ImageDelivery = "auto",
        preserve_alpha: bool | str = True,
        visual_input_content_moderation: bool | str = False,
        visual_output_content_moderation: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(destination=destination, **kwargs)
        from airflow_provider_segmind.files.listing import check_images

        check_choice("image_delivery", image_delivery, ImageDelivery)
        self.images = images
        self.image_delivery = image_delivery
        self.preserve_alpha = preserve_alpha
        self.visual_input_content_moderation = visual_input_content_moderation
        self.visual_output_content_moderation = visual_output_content_moderation
        self._check("images", lambda _, value: check_images(value))
        for name in _FLAGS:
            self._check(name, _boolean)

    def inputs(self, destination: Destination) -> Inputs:
        """Return the photos."""
        from airflow_provider_segmind.files.listing import check_images
        from airflow_provider_segmind.jobs.batch_plan import ImageInputs

        check_images(self.images)
        return ImageInputs(self.images, destination, NameTemplate(self.name_template), self.aws_conn_id)

    def describe_item(self, item: BatchItem, options: Mapping[str, Any]) -> JobDescription:
        """Return the job of one photo."""
        from airflow_provider_segmind.jobs.descriptions import describe_image_job

        return describe_image_job(
            self.batch_model, item.value, self._flags(), image_delivery=self.image_delivery, **options
        )

    def fingerprint(self) -> Sequence[object]:
        """Return the flags, and what is listed; the entries of a list count by themselves."""
        from airflow_provider_segmind.files.listing import is_fixed_list

        return [self._flags(), None if is_fixed_list(self.images) else str(self.images)]

    def _flags(self) -> dict[str, bool]:
        return {name: _boolean(name, getattr(self, name)) for name in _FLAGS}


def _boolean(name: str, value: object) -> bool:
    """Read a boolean, also as a template renders it."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    word = str(value).strip().lower()
    if word not in known:
        raise SegmindInputError(f"Invalid {name} {value!r}. Use True or False.")
    return known[word]
