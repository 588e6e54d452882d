"""``python -m airflow_provider_segmind.emulator``: serve the emulated API until SIGTERM or SIGINT."""

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

TYPES = {"port": int, "requests_per_minute": int, "seed": int, "host": str, "key": str, "data_dir": Path}


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Appends each default; where it is None, the help text describes it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """
    Parse the command line.

    :param arguments: the arguments, default those of the process
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_segmind.emulator",
        description="Emulate the Segmind API on this machine, without an account or costs.",
        formatter_class=_Help,
    )
    for field in dataclasses.fields(Settings):
        default = 8765 if field.name == "port" else field.default
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=TYPES.get(field.name, float),
            default=default,
            help=field.metadata["description"],
        )
    try:
        return Settings(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Serve until SIGTERM or SIGINT.

    :param arguments: the arguments, default those of the process
    :return: the exit status
    """
    settings = parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    stop_requested = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_requested.set())
    emulator = SegmindEmulator(**{f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)})
    try:
        emulator.start()
    except OSError as error:
        print(f"Cannot start the emulator on {settings.host}:{settings.port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    # The parent process reads the address from here, so it must not wait in a buffer.
    print(f"Segmind emulator at {emulator.url}", flush=True)  # noqa: T201
    try:
        stop_requested.wait()
    finally:
        emulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
