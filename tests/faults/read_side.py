"""Whether the read models say what the log says: built again from nothing, and compared."""

import psycopg

from events.topics import Topics
from infra.projections import all_projections
from infra.rebuild import RebuildRefused, rebuild
from infra.servers import resolve
from infra.settings import Settings
from tests.fixtures.thalweg import RunningThalweg

REPEAT_EVERYTHING = "UPDATE conversations.relay SET position = 0, last_event = NULL"
RELAYED = "SELECT position FROM conversations.relay"
HEAD = "SELECT max(notification_id) FROM conversations.stored_events"


async def judge_read_side(thalweg: RunningThalweg) -> list[str]:
    """Where what a rebuild made of the log differs from the live read models; empty if nowhere."""
    settings, found = settings_of(thalweg), []
    for projection in all_projections():
        try:
            built = await rebuild(settings, Topics(), projection.tables.name)
        except RebuildRefused as refused:
            found.append(str(refused))
            continue
        if not built.equal:
            found.append(f"{built.label}: {built.mine}, {built.compared_with}: {built.theirs}")
        if built.parked:
            found.append(f"{built.label}: {built.parked} streams are parked")
    return found


def settings_of(thalweg: RunningThalweg) -> Settings:
    return resolve(Settings(home=thalweg.home))


def relayed(thalweg: RunningThalweg) -> tuple[int, int]:
    """(how far the relay of the conversations is, how far their store is)."""
    with psycopg.connect(settings_of(thalweg).database_url("conversations")) as connection:
        position = connection.execute(RELAYED).fetchone()
        head = connection.execute(HEAD).fetchone()
    assert position is not None
    assert head is not None
    return int(position[0]), int(head[0] or 0)


def repeat_everything(thalweg: RunningThalweg) -> None:
    """The next leader of the relay sends every event of the conversations again."""
    with psycopg.connect(settings_of(thalweg).database_url("conversations")) as connection:
        connection.execute(REPEAT_EVERYTHING)
