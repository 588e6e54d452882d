"""
The functions of the package at which task processes can be made to die.

The package marks each with a line ``Chaos seam: <points>``, in its docstring or in a comment.
``tests/chaos/test_seams.py`` fails when a function or its mark is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any

Function = Callable[..., Any]

PACKAGE = "airflow_provider_segmind"


@dataclass(frozen=True)
class Seam:
    """
    A function of the package that is wrapped.

    :param name: ``module:function`` or ``module:Class.method``, below the package
    :param points: the points that it stands for
    :param caller: the function that calls it, in the same notation, where its own source is elsewhere because it is
        imported or inherited
    """

    name: str
    points: tuple[str, ...]
    caller: str | None = None

    @property
    def marked_function(self) -> str:
        """The function whose source must have a line ``Chaos seam: <points>``."""
        return self.caller or self.name


EXECUTE = Seam("operators.job:SegmindJobOperator.execute", ("delivered_to_end",))
EXECUTE_COMPLETE = Seam("operators.job:SegmindJobOperator.execute_complete", ("delivered_to_end",))
DEFER = Seam(
    "operators.job:SegmindJobOperator.defer",
    ("checkpoint_to_wait",),
    caller="operators.job:SegmindJobOperator._defer",
)
WRITE_CHECKPOINT = Seam("jobs.checkpoint:TaskCheckpoints.write", ("intent_to_post", "post_to_checkpoint"))
MARK_DELIVERED = Seam("jobs.checkpoint:TaskCheckpoints.mark_delivered", ("stored_to_delivered",))
WRITE_LEDGER = Seam("jobs.ledger:LedgerCheckpoints.write", ("intent_to_post", "post_to_checkpoint"))
MARK_IN_LEDGER = Seam("jobs.ledger:LedgerCheckpoints.mark_delivered", ("stored_to_delivered",))
WAIT_IN_WORKER = Seam("jobs.run:JobRun._wait_for_end", ("checkpoint_to_wait", "while_waiting"))
DOWNLOAD = Seam("jobs.delivery:Delivery._download", ("mid_download",))
STORE = Seam("jobs.delivery:store", ("mid_upload",), caller="jobs.delivery:Delivery._fetch_and_store")

BATCH_EXECUTE = Seam("operators.batch:SegmindBatchOperator.execute", ())
BATCH_EXECUTE_COMPLETE = Seam("operators.batch:SegmindBatchOperator.execute_complete", ())
CREATE_DOCUMENT = Seam("files.documents:S3Documents.create", ())
REPLACE_DOCUMENT = Seam("files.documents:S3Documents.replace", ())
WRITE_DOCUMENT = Seam("files.documents:S3Documents.write", ())

SEAMS = (
    EXECUTE,
    EXECUTE_COMPLETE,
    DEFER,
    WRITE_CHECKPOINT,
    MARK_DELIVERED,
    WRITE_LEDGER,
    MARK_IN_LEDGER,
    WAIT_IN_WORKER,
    DOWNLOAD,
    STORE,
)
"""All functions of the package that are wrapped."""


def find_function(name: str) -> Function:
    """
    Return a function of the package.

    :param name: as in :class:`Seam`
    :raises ImportError: there is no such module
    :raises AttributeError: there is no such function
    """
    holder, attribute = _find_holder(name)
    function: Function = getattr(holder, attribute)
    return function


def wrap(seam: Seam, wrapper: Callable[[Function], Function]) -> None:
    """Put a function of the caller around a seam."""
    holder, attribute = _find_holder(seam.name)
    setattr(holder, attribute, wrapper(getattr(holder, attribute)))


def _find_holder(name: str) -> tuple[Any, str]:
    module, _, path = name.partition(":")
    owner, _, attribute = path.rpartition(".")
    holder: Any = import_module(f"{PACKAGE}.{module}")
    return attrgetter(owner)(holder) if owner else holder, attribute
