"""Where roles show their figures: a socket each. It needs no library, so the supervisor has it."""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence

from infra.settings import Settings

log = logging.getLogger("thalweg.metrics")

CONNECTIONS_WAITING_MAX = 16


def metrics_listener(settings: Settings, port: int) -> socket.socket:
    """Raises OSError."""
    host = settings.metrics_host
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=CONNECTIONS_WAITING_MAX)


def listener_or_none(
    settings: Settings, port: int, tell: Callable[[str], None]
) -> socket.socket | None:
    """None: it can't be had, which has been told. Nobody goes without a role for that."""
    try:
        return metrics_listener(settings, port)
    except OSError as problem:
        tell(
            f"no metrics are shown at {settings.metrics_host}:{port}:"
            f" {problem.strerror or problem}. See what listens there (`ss -ltnp 'sport = :{port}'`)"
            " or set THALWEG_METRICS_PORT to another port, and start again. All else works."
        )
        return None


def metrics_listeners(
    settings: Settings, roles: Sequence[str], tell: Callable[[str], None]
) -> Mapping[str, socket.socket]:
    """By role, in their order: one port after the other from THALWEG_METRICS_PORT on."""
    if settings.metrics_port is None:
        return {}
    found = {
        role: listener_or_none(settings, settings.metrics_port + number, tell)
        for number, role in enumerate(roles)
    }
    return {role: listener for role, listener in found.items() if listener is not None}
