"""The name of a host, where the processes of several hosts run on one machine."""

from __future__ import annotations

import os

VARIABLE = "CLUSTER_HOST"
"""The environment variable with the name of the host that a process stands for."""


def get_hostname() -> str:
    """Return the name of the host: the value of ``[core] hostname_callable``."""
    return os.environ.get(VARIABLE, "shared")
