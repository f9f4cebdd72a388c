"""Refusals for want of a model, of an engine or of room: before an event is written."""

from dataclasses import dataclass
from typing import ClassVar

from gateway.errors import Declined


@dataclass(unsafe_hash=True)
class UnknownModel(Declined):
    STATUS: ClassVar[int] = 404
    CODE: ClassVar[str] = "model_not_found"
    model: str

    def __str__(self) -> str:
        return f"the model {self.model!r} is not served here; GET /v1/models lists those that are"

    @property
    def parameter(self) -> str | None:
        return "model"


@dataclass(unsafe_hash=True)
class NoModelKnown(Declined):
    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "no_model_known"

    def __str__(self) -> str:
        return "an engine has not told its models yet; send it again in a moment, or name another"


@dataclass(unsafe_hash=True)
class TooManyUnanswered(Declined):
    STATUS: ClassVar[int] = 429
    CODE: ClassVar[str] = "too_many_unanswered"
    unanswered: int
    unanswered_max: int
    of: str
    """"tenant" or "installation"."""
    retry_after_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.unanswered} answers of this {self.of} are still open, {self.unanswered_max} "
            f"may be; send it again after {self.retry_after_seconds:g} s"
        )


@dataclass(unsafe_hash=True)
class FleetContended(Declined):
    """The engines are busy with others' requests for longer than this one may wait."""

    STATUS: ClassVar[int] = 429
    CODE: ClassVar[str] = "fleet_contended"
    band: str
    wait_seconds: float
    """The estimate, at the rate at which others are expected to end."""
    wait_seconds_max: float

    @property
    def retry_after_seconds(self) -> float:
        return max(1.0, self.wait_seconds - self.wait_seconds_max)

    def __str__(self) -> str:
        return (
            f"the engines are busy: a request of the band {self.band} would wait for some "
            f"{self.wait_seconds:.0f} s and may wait for {self.wait_seconds_max:g} s; send it "
            f"again after {self.retry_after_seconds:.0f} s"
        )


@dataclass(unsafe_hash=True)
class NoEngine(Declined):
    """No engine that serves the model has taken a call for long."""

    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "no_engine"
    model: str
    out_seconds: float
    retry_after_seconds: float

    def __str__(self) -> str:
        return (
            f"no engine serves the model {self.model!r} now, for {self.out_seconds:.0f} s; send it "
            f"again after {self.retry_after_seconds:g} s"
        )
