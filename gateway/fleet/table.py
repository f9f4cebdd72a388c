"""The fleet as one table, of what its workers reported: for an operator, and for a tenant. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from events.conversations import Band
from events.workers import EngineReport, QueueReport, Report
from gateway.fleet.view import FIRST_TO_LAST

WORST_FIRST = ("open", "half_open", "closed")
Aged = tuple[float, Report]
"""A report, and its age in seconds."""


@dataclass(frozen=True, slots=True)
class Whose:
    """For whom a table is. A tenant sees neither others' lines nor engines' addresses."""

    tenant: UUID | None
    """None: an operator, who sees everything."""


OPERATOR = Whose(None)


def table_of(reports: Sequence[Aged], whose: Whose) -> dict[str, list[dict[str, Any]]]:
    """`workers`, `engines`, `queues` and `served`, ready for JSON but for ids and bands."""
    return {
        "workers": [_worker(number, one, whose) for number, one in enumerate(reports, 1)],
        "engines": list(_engines(reports, whose)),
        "queues": list(_queues((line for _, one in reports for line in one.queues), whose)),
        "served": list(_served(reports)),
    }


def _worker(number: int, aged: Aged, whose: Whose) -> dict[str, Any]:
    age, one = aged
    return {
        "name": one.worker if whose is OPERATOR else str(number),
        "age_seconds": round(age, 1),
        "partitions": one.partitions,
        "held": one.held,
    }


def _engines(reports: Sequence[Aged], whose: Whose) -> Iterable[dict[str, Any]]:
    seen: defaultdict[str, list[EngineReport]] = defaultdict(list)
    for _, report in reports:
        for engine in report.engines:
            seen[engine.name].append(engine)
    for number, (name, views) in enumerate(sorted(seen.items()), 1):
        yield {"name": name if whose is OPERATOR else str(number), **_together(views)}


def _together(views: Sequence[EngineReport]) -> dict[str, Any]:
    """One engine, as several workers see it: their calls add up, and of its own figures the latest
    count. It is out for only as long as all say so."""
    latest = min(views, key=lambda one: _or_last(one.age_seconds))
    outs = [one.out_seconds for one in views if one.out_seconds is not None]
    return {
        "models": next((sorted(one.models) for one in views if one.models is not None), None),
        "breaker": min((one.breaker for one in views), key=_how_bad),
        "out_seconds": min(outs) if len(outs) == len(views) else None,
        "in_flight": sum(one.in_flight for one in views),
        "bound": max(one.bound for one in views),
        "load": max(one.load for one in views),
        "queued": latest.queued,
        "running": latest.running,
        "tokens": latest.tokens,
        "age_seconds": latest.age_seconds,
    }


def _or_last(age_seconds: float | None) -> float:
    return float("inf") if age_seconds is None else age_seconds


def _how_bad(breaker: str) -> int:
    return WORST_FIRST.index(breaker) if breaker in WORST_FIRST else len(WORST_FIRST)


def _queues(lines: Iterable[QueueReport], whose: Whose) -> Iterable[dict[str, Any]]:
    """A line for each model, band and tenant, in the order in which bands go."""
    sums: dict[tuple[str, Band, UUID | None], list[QueueReport]] = {}
    for line in lines:
        shown = line.tenant if whose is OPERATOR or line.tenant == whose.tenant else None
        sums.setdefault((line.model, line.band, shown), []).append(line)
    for model, band, tenant in sorted(sums, key=_order):
        of_key = sums[model, band, tenant]
        yield {
            "model": model,
            "band": band,
            "tenant": tenant,
            "waiting": sum(line.waiting for line in of_key),
            "tokens": sum(line.tokens for line in of_key),
            "waited_seconds": round(max(line.waited_seconds for line in of_key), 1),
        }


def _order(key: tuple[str, Band, UUID | None]) -> tuple[str, int, str]:
    model, band, tenant = key
    return model, FIRST_TO_LAST.index(band), "~" if tenant is None else str(tenant)


def _served(reports: Sequence[Aged]) -> Iterable[dict[str, Any]]:
    sums: dict[str, dict[str, Any]] = {}
    for _, report in reports:
        for one in report.served:
            so_far = sums.setdefault(one.model, {"model": one.model})
            for name, value in asdict(one).items():
                if name != "model":
                    so_far[name] = round(so_far.get(name, 0.0) + value, 2)
    return [sums[model] for model in sorted(sums)]
