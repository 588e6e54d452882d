"""What the operators' parameters have in common: when a value can be checked, and what a retry policy says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from airflow_provider_segmind import exceptions
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindError, SegmindInputError

OnModerationBlock = Literal["fail", "skip"]


def is_known_at_parse(value: object) -> bool:
    """Whether a value can be checked as the DAG is parsed: no template, callable or other task's result is in it."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(map(is_known_at_parse, (*value, *value.values())))
    if isinstance(value, list | tuple | set):
        return all(map(is_known_at_parse, value))
    # An XComArg and its like have iter_references; Airflow calls a callable in a template field to render it.
    return not hasattr(value, "iter_references") and not callable(value)


def check_conn_id(name: str, conn_id: object) -> None:
    """Refuse what cannot be the id of a connection."""
    if not isinstance(conn_id, str) or not conn_id:
        raise SegmindInputError(f"Invalid {name} {conn_id!r}. Use the id of an Airflow connection.")


def check_payloads(payloads: object) -> Sequence[Any]:
    """Return the payloads, a list or what Airflow makes of one."""
    if isinstance(payloads, str | bytes | Mapping) or not hasattr(payloads, "__iter__"):
        raise SegmindInputError(
            f"payloads is {redact(repr(payloads), limit=60)}, of type {type(payloads).__name__}. Give a list of dicts, "
            "one for each job."
        )
    return list(payloads)


def max_tries_of(ti: Any) -> int | None:
    """Return the number of a task instance's last allowed try, which a user's Clear raises; ``None`` if unknown."""
    tries = getattr(ti, "max_tries", None)
    return tries if isinstance(tries, int) else None


def default_retry_policy() -> Any:
    """Return the retry policy of Segmind's operators, ``None`` before Airflow 3.3, which has none."""
    try:
        from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
    except ImportError:
        return None
    kinds = [getattr(exceptions, name) for name in exceptions.__all__]
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception=f"{kind.__module__}.{kind.__qualname__}",
                action=RetryAction.RETRY,
                retry_delay=kind.policy.retry_delay,
                reason=kind.policy.retry_reason,
            )
            for kind in kinds
            if isinstance(kind, type) and issubclass(kind, SegmindError) and kind.policy.retry_delay is not None
        ]
    )
