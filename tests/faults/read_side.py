"""Whether the read models say what the log says: built again from nothing, and compared."""

from events.topics import Topics
from infra.projections import all_projections
from infra.rebuild import RebuildRefused, rebuild
from infra.servers import resolve
from infra.settings import Settings
from tests.fixtures.thalweg import RunningThalweg


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
