"""What the demonstration says at its end."""

from __future__ import annotations

from demo.order import Order
from demo.walk import Outcome

WHERE = {
    "scheduled": "may run",
    "queued": "waits for a worker",
    "running": "holds a worker",
    "deferred": "waits on the triggerer, holds no worker",
    "success": "the picture is in S3",
}


def report(order: Order, outcome: Outcome) -> str:
    """Return the whole report."""
    cost = outcome.facts["metrics"].get("cost")
    nobody = "" if order.api_key else " (the emulator's price; nobody was charged)"
    lines = [
        "",
        "What the task went through",
        *_states(outcome),
        "",
        f"Requests   {_requests(outcome)}",
        f"Cost       {'not told by the service' if cost is None else f'{cost:g} USD'}{nobody}",
        f"Result     {outcome.facts['uri']}  ({outcome.facts['width']} x {outcome.facts['height']}, "
        f"{outcome.facts['size']:,} bytes, {outcome.facts['content_type']})",
        f"Picture    {outcome.picture.resolve()}",
    ]
    return "\n".join(lines)


def _states(outcome: Outcome) -> list[str]:
    rows = [(moment, state, WHERE.get(state, "")) for moment, state in outcome.states]
    if outcome.submitted is not None:
        rows.append((outcome.submitted, "submitted", "Segmind has accepted the photo"))
    rows.sort()
    start = rows[0][0] if rows else 0.0
    return [f"  {moment - start:6.2f} s  {state:<10} {where}".rstrip() for moment, state, where in rows]


def _requests(outcome: Outcome) -> str:
    if outcome.requests is None:
        return "not counted: the real service keeps no log for us"
    counts = dict(outcome.requests)
    files = counts.pop("file", 0)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{sum(counts.values())} to the API ({kinds}), {files} for the file"
