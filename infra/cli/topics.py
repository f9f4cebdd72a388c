"""`thalweg topics`: the topics, their sizes, and how far those who read them are behind."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection
from dataclasses import asdict, replace
from datetime import timedelta

import psycopg

from events.catalog import CONTEXTS
from events.topics import Topics
from infra.kafka.offsets import QueryFailed
from infra.kafka.overview import Ends, Topic, lag_of, overview
from infra.kafka.topics import KafkaSilent, TopicsMissing
from infra.servers import resolve
from infra.settings import Settings

FAILED = 1
CONNECT_SECONDS_MAX = 5
KILO = 1_024


def topics(settings: Settings, *, as_json: bool) -> int:
    """Returns the exit status."""
    try:
        found = asyncio.run(_found(resolve(settings)))
    except LookupError as problem:
        text = str(problem.args[0])
    except (KafkaSilent, TopicsMissing, QueryFailed) as problem:
        text = str(problem)
    else:
        _print(found, as_json=as_json)
        return 0
    print(f"{text[:1].upper()}{text[1:]}.", file=sys.stderr)
    return FAILED


async def _found(settings: Settings) -> list[Topic]:
    names = Topics()
    domain = [names.domain(context) for context in CONTEXTS]
    groups = {names.answers_group: names.all_work, names.recorder_group: (names.tokens,)}
    others = (names.tokens, names.workers, names.decisions)
    found, ends = await overview(
        settings.kafka_servers, [*domain, *names.all_work, *others], groups
    )
    models = await asyncio.to_thread(_read_models, settings, domain, ends)
    sagas = await asyncio.to_thread(_sagas, settings, names, domain, ends)
    return [
        replace(one, lags={**one.lags, **models.get(one.topic, {}), **sagas.get(one.topic, {})})
        for one in found
    ]


def _read_models(
    settings: Settings, domain: Collection[str], ends: Ends
) -> dict[str, dict[str, int]]:
    """The lag of each build of a projection; they keep their offsets with their tables."""
    from infra.projections import connect
    from projections.tables import OFFSETS
    from projections.versions import builds

    lags: dict[str, dict[str, int]] = {}
    try:
        with connect(settings.database_url("projections")) as connection:
            for one in builds(connection):
                for topic in domain:
                    rows = connection.execute(one.tables.compose(OFFSETS), (topic,)).fetchall()
                    if rows:
                        lag = lag_of(dict(rows), {}, ends[topic])
                        lags.setdefault(topic, {})[one.tables.label] = lag
    except psycopg.Error as error:
        reason = type(error).__name__
        print(f"The read models' lags are not known ({reason}).", file=sys.stderr)
    return lags


def _sagas(
    settings: Settings, names: Topics, domain: Collection[str], ends: Ends
) -> dict[str, dict[str, int]]:
    """The lag of each saga, by the name of its group; they keep their offsets with their states."""
    from infra.sagas.tables import READ_UP_TO

    lags: dict[str, dict[str, int]] = {}
    try:
        url = settings.database_url("sagas")
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS_MAX) as connection:
            for topic in domain:
                at: dict[str, dict[int, int]] = {}
                for saga, partition, offset in connection.execute(READ_UP_TO, (topic,)):
                    at.setdefault(saga, {})[partition] = offset
                for saga, offsets in at.items():
                    label = f"{names.sagas_group}.{saga}"
                    lags.setdefault(topic, {})[label] = lag_of(offsets, {}, ends[topic])
    except psycopg.errors.UndefinedTable:
        return {}  # none has run yet
    except psycopg.Error as error:
        print(f"The sagas' lags are not known ({type(error).__name__}).", file=sys.stderr)
    return lags


def _print(found: list[Topic], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("topic", box=None)
    for name in ("partitions", "replicas", "kept", "records", "size"):
        table.add_column(name, justify="right")
    table.add_column("lag")
    for one in found:
        kept = "for ever"
        if one.retention_seconds is not None:
            kept = str(timedelta(seconds=round(one.retention_seconds)))
        table.add_row(
            one.topic,
            str(one.partitions),
            f"{one.in_sync}/{one.replicas}",
            kept,
            f"{one.records:,}",
            size_of(one.bytes),
            ", ".join(f"{name} {lag:,}" for name, lag in one.lags.items()),
        )
    Console().print(table)


def size_of(count: int | None) -> str:
    """In the unit that people read."""
    if count is None:
        return "?"
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < KILO:
            break
        size, unit = size / KILO, larger
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
