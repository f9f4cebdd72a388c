"""Whether streams are parked in the read models, for `/readyz`: it says so, and decides nothing."""

from __future__ import annotations

from psycopg.sql import SQL

from infra.health import READY, Check
from infra.read_models import ReadModels
from projections.tables import Tables
from projections.versions import LIVE

STREAMS = "SELECT count(*) FROM {parked}"


def parked_check(models: ReadModels) -> Check:
    """Gives "ready", or how many streams are parked in live builds."""

    async def ask() -> str:
        live = await models.fetch(SQL(LIVE).format(), ())
        found = 0
        for name, version, build in live:
            tables = Tables(name, version, build=build)
            rows = await models.fetch(tables.compose(STREAMS), ())
            found += rows[0][0]
        return READY if not found else f"{found} stream{'s' * (found > 1)} parked"

    return ask
