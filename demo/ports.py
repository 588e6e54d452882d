"""Free ports of this machine."""

from __future__ import annotations

import random
import socket

# Below the range from which systems take the ports of outgoing connections: one of those could grab ours meanwhile.
RANGE = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """
    Choose ports that nobody listens on, at random, so that two callers at the same time do not choose the same.

    :param count: how many
    """
    ports: list[int] = []
    for port in random.sample(RANGE, k=min(len(RANGE), 200 * count)):
        if _is_free(port):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError(f"Found no {count} free ports between {RANGE.start} and {RANGE.stop}.")


def _is_free(port: int) -> bool:
    # Airflow's log servers listen on all interfaces, by IPv6 too.
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((host, port))
        except OSError:
            if family == socket.AF_INET or (socket.has_ipv6 and _ipv6_works()):
                return False
    return True


def _ipv6_works() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
