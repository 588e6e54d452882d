"""The report that the demo prints at its end."""

from __future__ import annotations

from demo.run import Outcome
from demo.settings import Settings

WHERE = {
    "scheduled": "ready to run",
    "queued": "waiting for a worker",
    "running": "occupies a worker",
    "deferred": "waiting in the triggerer, occupies no worker",
    "success": "the result is in S3",
}


def report(settings: Settings, outcome: Outcome) -> str:
    """Return the report as text."""
    cost = outcome.facts["metrics"].get("cost")
    price = "" if settings.api_key else " (the emulator's price, nobody was charged)"
    lines = [
        "",
        "States of the task",
        *_states(outcome),
        "",
        f"Requests   {_requests(outcome)}",
        f"Cost       {'not reported by the service' if cost is None else f'{cost:g} USD'}{price}",
        f"Result     {outcome.facts['uri']}  ({outcome.facts['width']} x {outcome.facts['height']}, "
        f"{outcome.facts['size']:,} bytes, {outcome.facts['content_type']})",
        f"Picture    {outcome.picture.resolve()}",
    ]
    return "\n".join(lines)


def _states(outcome: Outcome) -> list[str]:
    rows = [(moment, state, WHERE.get(state, "")) for moment, state in outcome.states]
    if outcome.submitted is not None:
        rows.append((outcome.submitted, "submitted", "Segmind accepted the photo"))
    rows.sort()
    start = rows[0][0] if rows else 0.0
    return [f"  {moment - start:6.2f} s  {state:<10} {where}".rstrip() for moment, state, where in rows]


def _requests(outcome: Outcome) -> str:
    if outcome.requests is None:
        return "not counted, because the real service has no log of them"
    counts = dict(outcome.requests)
    files = counts.pop("file", 0)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{sum(counts.values())} to the API ({kinds}), {files} for the result file"
