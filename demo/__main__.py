"""``make demo``: one photo through real Airflow, before your eyes."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from demo.kept import remember
from demo.live_line import LiveLine
from demo.order import Order, OrderError
from demo.process import ProcessFailedError, tail
from demo.report import report
from demo.stack import Stack
from demo.walk import TaskFailedError, Walk

LOG_LINES = 40


class ToldToStopError(BaseException):
    """
    A signal asks us to stop.

    :param number: which
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> int:
    """Run the demonstration; return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        order = Order.of_environment(os.environ)
        print(_greeting(order), flush=True)
        return _demonstrate(order)
    except OrderError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _stopped(signal.SIGINT)
    except ToldToStopError as told:
        return _stopped(told.number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read along has gone
        return 1


def _demonstrate(order: Order) -> int:
    with Stack() as stack:
        try:
            with LiveLine() as line:
                outcome = Walk(order, stack, line).run()
        except TaskFailedError as error:
            print(f"\n{error}\n\nThe end of its log:\n{_last_lines(error.log)}\n\n{_advice(order)}", file=sys.stderr)
            return 1
        except (ProcessFailedError, TimeoutError) as error:
            log = getattr(error, "log", None)
            told = f"\n\nThe end of its log:\n{tail(log, LOG_LINES)}" if log else ""
            print(f"\n{error}{told}\n\nTry `make clean demo`; it needs 2 GB of memory.", file=sys.stderr)
            return 1
        print(report(order, outcome), flush=True)
        if order.keep:
            remember(stack, outcome.ui)
            print(
                f"\nAirflow goes on at {outcome.ui} (no password), S3 at {outcome.s3}, logs in {stack.logs}.\n"
                "Stop them with `make demo-stop`.",
                flush=True,
            )
    return 0


def _greeting(order: Order) -> str:
    photo = f"Photo: {order.image}"
    if order.api_key:
        where = f" at {order.api_url}" if order.api_url else ""
        return f"The REAL Segmind service{where} does the work: your account is charged for one image.\n{photo}"
    idle_key = " SEGMIND_API_KEY is not used: give IMAGE=https://... too." if os.environ.get("SEGMIND_API_KEY") else ""
    return f"An emulator on this machine stands in for Segmind: no account, no cost.{idle_key}\n{photo}"


def _advice(order: Order) -> str:
    if order.api_key:
        return "The last lines say what Segmind answered. Check the key, the balance, and that IMAGE is public."
    return "The last lines say why. An IMAGE of yours must be a JPEG, PNG or WEBP of at most 30 MB."


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_LINES:])


def _stop(number: int, _: FrameType | None) -> None:
    raise ToldToStopError(number)


def _stopped(number: int) -> int:
    print("\nStopped. Nothing is left running.", file=sys.stderr)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
