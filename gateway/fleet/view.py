"""What a gateway has heard of the workers, and what it expects of them. Pure.

It refuses only by what it knows: without a fresh report of a worker everything is admitted.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from events.conversations import Band
from events.ids import TenantId
from events.workers import EngineReport, QueueReport, Report

REPORT_SECONDS_MAX = 5.0
"""Older reports count for nothing: a worker says one each second."""
FIRST_TO_LAST = tuple(Band)


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
        self._summed: _Summed | None = None
        """Of the reports that are fresh; None: another has come."""

    def heard(self, report: Report, now: float) -> None:
        """`now` is of a clock that never goes back, in seconds, here as everywhere."""
        self._reports[report.worker] = now, report
        self._summed = None
        for worker, (at, _) in list(self._reports.items()):
            if now - at > REPORT_SECONDS_MAX:
                del self._reports[worker]

    def reports(self, now: float) -> Sequence[tuple[float, Report]]:
        """The fresh ones, by the workers' names, each with its age in seconds."""
        fresh = sorted(self._reports.items())
        return [(now - at, one) for _, (at, one) in fresh if now - at <= REPORT_SECONDS_MAX]

    def outlook(self, model: str, band: Band, tenant: TenantId, now: float) -> Outlook | None:
        """None: nothing is known."""
        summed = self._summed
        if summed is None or now > summed.until:
            summed = self._summed = _sum(self.reports(now), now)
        if not summed.knows:
            return None
        model = self._models_by_alias.get(model, model)
        ahead, rate = _ahead(summed.waits.get(model, ()), band, tenant), summed.rates.get(model)
        return Outlook(0.0 if not ahead else ahead / rate if rate else None, summed.out(model))


@dataclass(slots=True)
class _Summed:
    """What reports say of each model, gathered once for all requests until the next report: it is
    asked for with each, and with many models and tenants a report has a thousand lines."""

    knows: bool
    """There is a report."""
    until: float
    """Then one of them is stale."""
    waits: defaultdict[str, list[QueueReport]] = field(default_factory=lambda: defaultdict(list))
    rates: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    outs: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of the engines that serve a model, how long each takes no calls; 0: it takes some."""
    outs_of_others: list[float] = field(default_factory=list)
    """Of engines that have not said what they serve."""

    def out(self, model: str) -> float | None:
        """For as long as every worker says so of every engine that serves it, or may."""
        outs = [*self.outs.get(model, ()), *self.outs_of_others]
        return min(outs) if outs and all(outs) else None


def _sum(aged: Sequence[tuple[float, Report]], now: float) -> _Summed:
    reports = [report for _, report in aged]
    oldest = max((age for age, _ in aged), default=0.0)
    made = _Summed(bool(reports), now - oldest + REPORT_SECONDS_MAX)
    views: defaultdict[str, list[EngineReport]] = defaultdict(list)
    for report in reports:
        for line in report.queues:
            made.waits[line.model].append(line)
        for served in report.served:
            made.rates[served.model] += served.expected_per_second
        for engine in report.engines:
            views[engine.name].append(engine)
    for of_engine in views.values():
        out = min(engine.out_seconds or 0.0 for engine in of_engine)
        if any(engine.models is None for engine in of_engine):
            made.outs_of_others.append(out)
        else:
            for model in {model for engine in of_engine for model in engine.models or ()}:
                made.outs[model].append(out)
    return made


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
