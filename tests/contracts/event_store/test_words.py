"""What callers are told when the database is away: whether to try again, and nothing about it."""

import pytest
from eventsourcing.persistence import OperationalError
from psycopg_pool import PoolTimeout

from commands.errors import StoreUnavailable
from commands.store import Append
from infra.event_store import open_conversation_store, unreachable
from infra.event_store.writer import Writer
from infra.read_models import KeysReadModel, ReadModels
from tests.contracts.event_store.appends import append

AWAY = "postgresql://somebody@127.0.0.1:1/somewhere"
SECONDS_MAX = 1.0
"""Even a slow machine gets to its first attempt within it."""

WARNING_SECONDS = 600.0
"""Between lines of the log: longer than this test takes."""


async def test_nobody_is_told_which_database_is_away(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreachable, "_warned_at", float("-inf"))
    monkeypatch.setattr(unreachable, "WARNING_SECONDS", WARNING_SECONDS)
    with pytest.raises(StoreUnavailable) as refused:
        await open_conversation_store(AWAY)
    assert refused.value == StoreUnavailable("Postgres can't be reached")
    models = ReadModels(AWAY, connections_max=1)
    await models.open()
    with pytest.raises(StoreUnavailable) as refused:
        await KeysReadModel(models).find("a" * 64)
    await models.close()
    assert refused.value == StoreUnavailable("Postgres can't be reached")
    told = [vars(one)["reason"] for one in caplog.records if one.name == "thalweg.event_store"]
    assert len(told) == 1, "the log has the driver's words, and not once a call"


class Gone:
    """A recorder that loses its connection at every call, in a way that the test chooses."""

    def __init__(self, why: Exception) -> None:
        self._why = why

    def _lose(self, *_: object) -> None:
        raise OperationalError("gone") from self._why

    store = stored_commands = heads = _lose


@pytest.mark.parametrize(
    ("why", "maybe_stored"), [(PoolTimeout("none"), False), (OSError("reset"), True)]
)
async def test_only_an_append_that_was_sent_may_have_been_stored(
    why: Exception, maybe_stored: bool
) -> None:
    writer = Writer(Gone(why), "test", store_seconds_max=SECONDS_MAX)  # type: ignore[arg-type]  # it never returns
    writer.start()
    given: Append = append()
    with pytest.raises(StoreUnavailable) as refused:
        await writer.append(given, [])
    writer.close()
    assert refused.value.maybe_stored is maybe_stored
