"""Values of labels that come from outside are few, whatever comes."""

from collections.abc import Callable

OTHER = "other"
VALUES_MAX = 100
"""Of one label in one process. A series costs Prometheus some kB, and this process some 20 µs a
scrape."""


class Few:
    """At most `VALUES_MAX` different ones; those that come later are `other`."""

    def __init__(self, *, other: str = OTHER) -> None:
        self._other = other
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= VALUES_MAX:
            return self._other
        self._known.add(value)
        return value


class Models:
    """Names of models that an engine serves; what users invent is `other`."""

    def __init__(self, is_served: Callable[[str], bool]) -> None:
        self._is_served = is_served
        self._few = Few()

    def of(self, model: str) -> str:
        return self._few.of(model) if self._is_served(model) else OTHER
