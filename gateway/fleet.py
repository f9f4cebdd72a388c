"""What a gateway has heard of the workers, and what it expects of them. Pure.

It refuses only by what it knows: without a fresh report of a worker everything is admitted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from events.conversations import Band
from events.ids import TenantId
from events.workers import QueueReport, Report

REPORT_SECONDS_MAX = 5.0
"""Older reports count for nothing: a worker says one each second."""
FIRST_TO_LAST = (Band.PRIORITY, Band.DEFAULT, Band.FLEX)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Of a request that would be accepted now."""

    wait_seconds: float | None
    """For an engine, at the rate at which workers expect to finish others; None: others wait, and
    none is under way, or none has finished yet."""
    out_seconds: float | None
    """How long no engine of its model has taken a call; None: one takes calls, or may."""


class FleetView:
    """Of one gateway."""

    def __init__(self, models_by_alias: Mapping[str, str] | None = None) -> None:
        """Workers report models by the engines' names for them, clients ask by theirs."""
        self._models_by_alias = models_by_alias or {}
        self._reports: dict[str, tuple[float, Report]] = {}

    def heard(self, report: Report, now: float) -> None:
        """`now` is of a clock that never goes back, in seconds, here as everywhere."""
        self._reports[report.worker] = now, report
        for worker, (at, _) in list(self._reports.items()):
            if now - at > REPORT_SECONDS_MAX:
                del self._reports[worker]

    def reports(self, now: float) -> Sequence[tuple[float, Report]]:
        """The fresh ones, by the workers' names, each with its age in seconds."""
        fresh = sorted(self._reports.items())
        return [(now - at, one) for _, (at, one) in fresh if now - at <= REPORT_SECONDS_MAX]

    def outlook(self, model: str, band: Band, tenant: TenantId, now: float) -> Outlook | None:
        """None: nothing is known."""
        model = self._models_by_alias.get(model, model)
        reports = [report for _, report in self.reports(now)]
        if not reports:
            return None
        waits = [line for report in reports for line in report.queues if line.model == model]
        rate = sum(
            served.expected_per_second
            for report in reports
            for served in report.served
            if served.model == model
        )
        ahead = _ahead(waits, band, tenant)
        wait = 0.0 if not ahead else ahead / rate if rate else None
        return Outlook(wait, _out(reports, model))


def _ahead(waits: Sequence[QueueReport], band: Band, tenant: TenantId) -> float:
    """How many would go first: all of the bands before, and of its own as many as a turn for each
    tenant gives, which is less than all if others have more waiting."""
    before = FIRST_TO_LAST[: FIRST_TO_LAST.index(band)]
    first = sum(line.waiting for line in waits if line.band in before)
    own_band = [line for line in waits if line.band is band]
    own = sum(line.waiting for line in own_band if line.tenant == tenant)
    others = len({line.tenant for line in own_band if line.tenant not in (tenant, None)})
    others += sum(line.waiting for line in own_band if line.tenant is None)  # each may be another
    in_turns = own + (own + 1) * others
    return first + min(sum(line.waiting for line in own_band), in_turns)


def _out(reports: Sequence[Report], model: str) -> float | None:
    """For as long as every worker says so of every engine."""
    out = list(_out_by_engine(reports, model))
    return min(out) if out and all(out) else None


def _out_by_engine(reports: Sequence[Report], model: str) -> Iterator[float]:
    """Of each engine that serves the model, or may; 0: it takes calls."""
    names = {
        engine.name
        for report in reports
        for engine in report.engines
        if engine.models is None or model in engine.models
    }
    for name in names:
        yield min(
            engine.out_seconds or 0.0
            for report in reports
            for engine in report.engines
            if engine.name == name
        )
