"""What one process shows: its own use of the machine, and what its roles add."""

import logging
import socket
from dataclasses import dataclass

from prometheus_client import ProcessCollector, disable_created_metrics
from prometheus_client.registry import CollectorRegistry

from infra.metrics.listener import serve_metrics
from infra.metrics_ports import listener_or_none
from infra.settings import Settings

log = logging.getLogger("thalweg.metrics")


@dataclass(frozen=True, slots=True)
class Shown:
    registry: CollectorRegistry
    listener: socket.socket

    async def serve(self) -> None:
        """Until it is cancelled; never fails."""
        await serve_metrics(self.registry, self.listener)


def shown(settings: Settings, *, inherited: int | None, supervised: bool) -> Shown | None:
    """None: nothing is to be shown, or its port can't be had, which has been told. `inherited`: the
    listener's descriptor, from the supervisor."""
    listener = None
    if inherited is not None:
        listener = socket.socket(fileno=inherited)
    elif settings.metrics_port is not None and not supervised:
        listener = listener_or_none(settings, settings.metrics_port, log.error)
    if listener is None:
        return None
    listener.setblocking(False)
    return Shown(new_registry(), listener)


def new_registry() -> CollectorRegistry:
    # A series more for each counter, which Prometheus has no use for.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not type it
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    return registry
