"""Free ports of this machine."""

from __future__ import annotations

import random
import socket
import sys

# Systems take the ports of outgoing connections from a higher range, so none of those can take ours meanwhile.
RANGE = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """
    Choose ports on which no program listens and that no other caller of this function has chosen.

    Linux keeps a chosen port reserved until this process ends; elsewhere only the random choice keeps two callers
    apart that choose before their programs listen.

    :param count: how many
    """
    ports: list[int] = []
    for port in random.sample(RANGE, k=min(len(RANGE), 200 * count)):
        if _is_free(port) and _reserve(port):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError(f"Found no {count} free ports between {RANGE.start} and {RANGE.stop}.")


def _reserve(port: int) -> bool:
    """Bind a name in Linux's abstract namespace, which holds no file and ends with this process."""
    if sys.platform != "linux":
        return True
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reservation.bind(f"\0airflow-provider-segmind/port/{port}")
    except OSError:
        reservation.close()
        return False
    reservation.detach()  # the descriptor stays open until this process ends
    return True


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
