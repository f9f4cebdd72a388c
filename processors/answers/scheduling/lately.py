"""What engines served until lately. Pure.

An engine that goes is often on its way back: a container is replaced, a name loses an address for a
moment. Until then a model of which it was the last one is not a model that nobody has heard of.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from math import inf

from processors.answers.scheduling.work import Needs

LATELY_SECONDS = 120.0
"""As long as work waits for a first engine by default: a container is back in less."""
KEPT_MAX = 1_000
"""Models of engines that have gone; the one that went first is forgotten."""


class Lately:
    """By engine and model, when it was served last. Times are of a clock that never goes back."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()

    def ceased(self, engine: str, models: Iterable[str], now: float) -> None:
        """The engine served them until now."""
        for model in models:
            self._last[engine, model] = now
            self._last.move_to_end((engine, model))
        while len(self._last) > KEPT_MAX:
            self._last.popitem(last=False)

    def may_serve(self, needs: Needs, asked_at: float) -> bool:
        """One that could do it was there shortly before it was asked for, or went later."""
        return asked_at - self.last(needs) <= LATELY_SECONDS

    def last(self, needs: Needs) -> float:
        """When the last that could do it went; minus infinity: none has gone."""
        model, unable = needs
        return max(
            (
                last
                for (engine, served), last in self._last.items()
                if served == model and engine not in unable
            ),
            default=-inf,
        )

    def models(self, now: float) -> Iterator[str]:
        return (model for (_, model), last in self._last.items() if now - last <= LATELY_SECONDS)
