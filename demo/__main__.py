"""``make demo``: process one photo with real Airflow and report every step."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from demo.live_line import LiveLine
from demo.process import ProcessFailedError, tail
from demo.report import report
from demo.run import DemoRun, TaskFailedError
from demo.settings import Settings, SettingsError
from demo.stack import Stack
from demo.stop import remember

LOG_LINES = 40


class StopSignalError(BaseException):
    """
    A signal asks the demo to stop.

    :param number: the number of the signal
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> int:
    """Run the demo and return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        settings = Settings.from_environment(os.environ)
        print(_greeting(settings), flush=True)
        return _run(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _stopped(signal.SIGINT)
    except StopSignalError as stop:
        return _stopped(stop.number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has gone
        return 1


def _run(settings: Settings) -> int:
    with Stack() as stack:
        try:
            with LiveLine() as line:
                outcome = DemoRun(settings, stack, line).run()
        except TaskFailedError as error:
            print(f"\n{error}\n\nThe end of its log:\n{_last_lines(error.log)}\n\n{_advice(settings)}", file=sys.stderr)
            return 1
        except (ProcessFailedError, TimeoutError) as error:
            log = getattr(error, "log", None)
            end = f"\n\nThe end of its log:\n{tail(log, LOG_LINES)}" if log else ""
            print(f"\n{error}{end}\n\nTry `make clean demo`. The demo needs 2 GB of memory.", file=sys.stderr)
            return 1
        print(report(settings, outcome), flush=True)
        if settings.keep:
            remember(stack, outcome.ui)
            print(
                f"\nAirflow is still running at {outcome.ui} (no password), S3 at {outcome.s3}.\n"
                f"The logs are in {stack.logs}.\n"
                "Stop them with `make demo-stop`.",
                flush=True,
            )
    return 0


def _greeting(settings: Settings) -> str:
    photo = f"Photo: {settings.image}"
    if settings.api_key:
        where = f" at {settings.api_url}" if settings.api_url else ""
        return (
            f"The real Segmind service{where} will process the photo. Your account is charged for one image.\n{photo}"
        )
    unused = " SEGMIND_API_KEY is ignored because IMAGE is not set." if os.environ.get("SEGMIND_API_KEY") else ""
    return f"An emulator on this machine replaces Segmind, so this costs nothing.{unused}\n{photo}"


def _advice(settings: Settings) -> str:
    if settings.api_key:
        return "The last lines show Segmind's answer. Check the API key, the balance, and that IMAGE is public."
    return "The last lines show the reason. IMAGE must be a JPEG, PNG or WEBP file of at most 30 MB."


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_LINES:])


def _stop(number: int, _: FrameType | None) -> None:
    raise StopSignalError(number)


def _stopped(number: int) -> int:
    print("\nStopped. Nothing is left running.", file=sys.stderr)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
