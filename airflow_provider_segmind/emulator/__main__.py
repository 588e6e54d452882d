"""``python -m airflow_provider_segmind.emulator``: a Segmind on this machine until it is told to stop."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_segmind.emulator.server import SegmindEmulator
from airflow_provider_segmind.emulator.settings import Settings

HELP = {
    "host": "address to listen on",
    "port": "port to listen on; 0 picks a free one",
    "key": "the only API key that is accepted (default: any)",
    "job_seconds": "median time from a submit to its result",
    "job_sigma": "spread of the job times (lognormal); 0 makes them equal",
    "requests_per_minute": "rate limit (default: none)",
    "rate_window": "seconds that a minute of the rate limit lasts",
    "record_seconds": "how long a finished request is known",
    "file_seconds": "how long a result file is served",
    "history_delay": "seconds until a request appears in the history",
    "credits": "balance of the account in USD",
    "max_image_mb": "larger input images fail",
    "seed": "makes job times repeatable (default: they are not)",
    "data_dir": "folder for jobs and files, kept over restarts (default: a temporary one)",
}
TYPES = {"port": int, "requests_per_minute": int, "seed": int, "host": str, "key": str, "data_dir": Path}


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Names each default that is a value; what stands for none is said in words."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """
    Read the command line.

    :param arguments: the arguments, those of the process by default
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_segmind.emulator",
        description="The Segmind API on this machine: no account, no bill.",
        formatter_class=_Help,
    )
    for field in dataclasses.fields(Settings):
        default = 8765 if field.name == "port" else field.default
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=TYPES.get(field.name, float),
            default=default,
            help=HELP[field.name],
        )
    try:
        return Settings(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Serve until SIGTERM or SIGINT.

    :param arguments: the command line's arguments
    """
    settings = parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    told_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_stop.set())
    emulator = SegmindEmulator(**{f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)})
    try:
        emulator.start()
    except OSError as error:
        print(f"Cannot listen on {settings.host}:{settings.port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    # Whoever started this process reads the address here; it must not wait in a buffer.
    print(f"Segmind emulator at {emulator.url}", flush=True)  # noqa: T201
    try:
        told_to_stop.wait()
    finally:
        emulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
