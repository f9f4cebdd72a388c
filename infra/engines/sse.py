"""Server-sent events as inference servers send them: the data of each event, and nothing else.

Only a blank line ends an event (https://html.spec.whatwg.org/multipage/server-sent-events.html), so
what a broken connection cut off is never taken for a whole one. Lines end with LF or CRLF.
"""

EVENT_BYTES_MAX = 1_048_576
"""A last event repeats the whole text of a call: 1,024 tokens, each character escaped, fit well."""


class EventTooLong(Exception):
    """A line or an event is longer than any that an inference server has a reason to send."""

    def __init__(self) -> None:
        super().__init__(f"an event of its stream is longer than {EVENT_BYTES_MAX} bytes")


class EventReader:
    """Takes bytes as they arrive, gives the data of the events that they complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, arrived: bytes) -> list[bytes]:
        """The data of each event that ended. Comments, ids and names are left out."""
        *lines, self._rest = (self._rest + arrived).split(b"\n")
        events = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data = line[5:].removeprefix(b" ")
                self._data.append(data)
                self._data_bytes += len(data) + 1
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data, self._data_bytes = [], 0
            self._check(len(line))
        self._check(len(self._rest))
        return events

    def _check(self, line_bytes: int) -> None:
        if line_bytes + self._data_bytes > EVENT_BYTES_MAX:
            raise EventTooLong
