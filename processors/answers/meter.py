"""What a worker's figures are made of: told by the dispatcher, besides the log of its decisions.

Nothing is decided by it, and nothing waits for it. Implementation: infra/metrics/answers.py.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from processors.answers.engine import CannotContinue, EngineRefused, Overloaded
from processors.answers.scheduling.scheduler import Dispatch, Outcome
from processors.answers.scheduling.work import Why


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one call brought."""

    tokens: int = 0
    prompt_tokens: int | None = None
    """As the engine counted them; None: it did not say."""
    first_seconds: float | None = None
    """From the dispatch to the first token; None: none came."""


class Heard:
    """Tokens that engines said for one request in this worker's hands, over all of its calls."""

    __slots__ = ("before", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self.before = 0
        """Of the answer, that had been shown when the request came."""

    def wasted(self, shown: int) -> int:
        """Those that nobody was shown, of an answer that has ended with `shown` tokens."""
        return max(0, self.tokens - max(0, shown - self.before))


class LeftWithout(StrEnum):
    """Why work left the queue without an engine."""

    DEADLINE = Why.DEADLINE.value
    CONTENDED = Why.CONTENDED.value
    NO_CAPACITY = Why.NO_CAPACITY.value
    QUEUE_FULL = "queue_full"
    NO_MODEL = "no_model"
    """No engine serves its model."""
    CANNOT_CONTINUE = "cannot_continue"
    """No engine can go on with what was said."""


_REFUSALS: dict[type[Exception], LeftWithout] = {
    Overloaded: LeftWithout.QUEUE_FULL,
    EngineRefused: LeftWithout.NO_MODEL,
    CannotContinue: LeftWithout.CANNOT_CONTINUE,
}


def left_without(reason: Why | Exception) -> LeftWithout:
    return LeftWithout(reason.value) if isinstance(reason, Why) else _REFUSALS[type(reason)]


class Meter(Protocol):
    """One call costs microseconds, and never fails."""

    def dispatched(self, dispatch: Dispatch) -> None: ...

    def ended(self, dispatch: Dispatch, outcome: Outcome, spoken: Spoken, error: str) -> None:
        """A call is over, after `spoken`. `error`: the kind of its failure."""

    def given_up(self, reason: LeftWithout) -> None: ...

    def retried(self, *, granted: bool) -> None:
        """A call was to be made again, and the budget said whether it may."""

    def wasted(self, tokens: int) -> None:
        """Engines said these, and nobody was shown them."""


class Unmeasured:
    """Counts nothing."""

    def dispatched(self, dispatch: Dispatch) -> None:
        pass

    def ended(self, dispatch: Dispatch, outcome: Outcome, spoken: Spoken, error: str) -> None:
        pass

    def given_up(self, reason: LeftWithout) -> None:
        pass

    def retried(self, *, granted: bool) -> None:
        pass

    def wasted(self, tokens: int) -> None:
        pass


UNMEASURED = Unmeasured()
NOTHING = Spoken()
