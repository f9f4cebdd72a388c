"""What the held requests of a worker share: its ports and its limits."""

from collections.abc import Callable
from dataclasses import dataclass

from processors.answers.dispatch import Dispatcher
from processors.answers.pace import Pace
from processors.answers.ports import Request, Requests, TokenLog
from processors.answers.protocol_words import Bounds


@dataclass(frozen=True, slots=True)
class HoldingLimits:
    """The bounds of one held request; the defaults and their reasons are in the settings."""

    bounds: Bounds
    answer_seconds_max: float
    claim_again_seconds: float
    load_again_seconds: float
    chunk_delay_seconds_max: float
    chunk_bytes_max: int
    answer_logprobs_bytes_max: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all held requests of a worker share."""

    worker: str
    tokens: TokenLog
    requests: Requests
    dispatcher: Dispatcher
    limits: HoldingLimits
    pace: Pace
    is_member: Callable[[], bool]
    """Of the consumer group: see `Work`."""
    missed: Callable[[Request, float], bool]
    """Of a request, and its age in seconds: the fold that it was started with may lack its first
    claims. If so, it is held no more, and is started again once they are read."""
