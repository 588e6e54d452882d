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
    "operators.base:SegmindOperator.defer",
    ("checkpoint_to_wait",),
    caller="operators.base:SegmindOperator._defer",
)
WRITE_CHECKPOINT = Seam("jobs.checkpoint:TaskCheckpoints.write", ("intent_to_post", "post_to_checkpoint"))
MARK_DELIVERED = Seam("jobs.checkpoint:TaskCheckpoints.mark_delivered", ("stored_to_delivered",))
WRITE_LEDGER = Seam("jobs.ledger:LedgerCheckpoints.write", ("intent_to_post", "post_to_checkpoint"))
MARK_IN_LEDGER = Seam("jobs.ledger:LedgerCheckpoints.mark_delivered", ("stored_to_delivered",))
WAIT_IN_WORKER = Seam("jobs.run:JobRun._wait_for_end", ("checkpoint_to_wait", "while_waiting"))
DOWNLOAD = Seam("jobs.delivery:Delivery._download", ("mid_download",))
STORE = Seam("jobs.delivery:store", ("mid_upload",), caller="jobs.delivery:Delivery._fetch_and_store")

BATCH_EXECUTE = Seam("operators.batch:SegmindBatchOperator.execute", ("delivered_to_end",))
BATCH_EXECUTE_COMPLETE = Seam("operators.batch:SegmindBatchOperator.execute_complete", ("delivered_to_end",))

CREATE_DOCUMENT, REPLACE_DOCUMENT, WRITE_DOCUMENT = (
    f"files.documents:S3Documents.{method}" for method in ("create", "replace", "write")
)
LEDGER_WRITES = ("ledger_submitting", "ledger_submitted", "ledger_delivered")
WRITES = (
    Seam(CREATE_DOCUMENT, LEDGER_WRITES, caller="jobs.ledger:LedgerCheckpoints._put"),
    Seam(REPLACE_DOCUMENT, LEDGER_WRITES, caller="jobs.ledger:LedgerCheckpoints._put"),
    Seam(WRITE_DOCUMENT, ("batch_inputs",), caller="jobs.batch_plan:ImageInputs.items"),
    Seam(WRITE_DOCUMENT, ("batch_existing",), caller="jobs.batch_plan:existing_results"),
    Seam(WRITE_DOCUMENT, ("batch_state",), caller="jobs.batch_state:BatchState.write"),
    Seam(WRITE_DOCUMENT, ("journal_shard",), caller="jobs.journal:Journal.flush"),
    Seam(WRITE_DOCUMENT, ("journal_compact",), caller="jobs.journal:Journal.compact"),
    Seam(WRITE_DOCUMENT, ("failed_list", "manifest"), caller="jobs.journal:Journal.write_manifest"),
)
"""The writes of a batch beside its results. Each stands for two points: the process dies before or after it."""

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
    BATCH_EXECUTE,
    BATCH_EXECUTE_COMPLETE,
    *WRITES,
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


def wrap(name: str, wrapper: Callable[[Function], Function]) -> None:
    """
    Put a function of the caller around a function of the package.

    :param name: as in :class:`Seam`
    """
    holder, attribute = _find_holder(name)
    setattr(holder, attribute, wrapper(getattr(holder, attribute)))


def _find_holder(name: str) -> tuple[Any, str]:
    module, _, path = name.partition(":")
    owner, _, attribute = path.rpartition(".")
    holder: Any = import_module(f"{PACKAGE}.{module}")
    return attrgetter(owner)(holder) if owner else holder, attribute
