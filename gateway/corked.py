"""A transport that gathers what is written within one turn of the event loop.

A head and its body, or entries that came together, go out in one system call, in one packet, and
wake their reader once. Nothing waits longer than the callbacks that are ready now.
"""

import asyncio
from typing import Any


class CorkedTransport(asyncio.Transport):
    """Wraps the transport of one connection."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, gathered_bytes: int
    ) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._gathered_bytes = gathered_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> None:
        """Writes `data` at the end of this turn, or at once if enough has gathered."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._gathered_bytes:
            self.flush()

    def flush(self) -> None:
        if not self._parts:
            return
        parts, self._parts, self._size = self._parts, [], 0
        if not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._parts.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
