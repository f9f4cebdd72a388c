"""Every case of the harness."""

from collections.abc import Iterator

from tests.faults.apparatus.away import away
from tests.faults.apparatus.cursors import over_old_cursors
from tests.faults.at_failpoints import at_a_failpoint
from tests.faults.backlog import behind_a_long_answer
from tests.faults.between import between_any_two
from tests.faults.case import NO_ERRORS, Case, Form, Load
from tests.faults.cases_fleet import FLEET_CASES
from tests.faults.cases_world import WORLD_CASES
from tests.faults.engines import ALONE, OPENAI, TGI
from tests.faults.repeats import everything_relayed_again
from tests.faults.strikes import (
    engine_killed,
    killed,
    killed_all,
    killed_as_it_is_forked,
    killed_with_the_supervisor,
    paused,
    paused_together,
    storm,
)

ROLES = ("gateway", "relay", "answers", "recorder", "projections")
SERVERS = ("redis", "postgres", "kafka")
LONG_ONLY = frozenset({Form.LONG})
"""In `make test` there are others like them: one that comes by each failpoint, and outages."""
PAUSED = ("relay", "answers", "recorder", "projections")


def _cases() -> Iterator[Case]:
    for role in (*ROLES, "sagas", *SERVERS):
        yield Case(f"kill {role}", killed(role), role)
    yield Case("kill gateway as it is forked", killed_as_it_is_forked("gateway"), "fork-server")
    for role in PAUSED:
        yield Case(f"pause {role}", paused(role), role)
    for role in ("gateway", *SERVERS):
        yield Case(f"pause {role}", paused(role), role, forms=LONG_ONLY)
    together = (*ROLES, "sagas")
    yield Case("pause every role", paused_together(together), "all", forms=LONG_ONLY)
    yield Case("kill answers openai", killed("answers"), "answers", load=Load(models=(OPENAI,)))
    for model in (TGI, OPENAI):
        yield Case(
            f"kill engine {model}",
            engine_killed(model, away_seconds=2),
            "engine",
            load=Load(models=(model,)),
        )
    yield Case(
        "kill the only engine",
        engine_killed(ALONE, away_seconds=3),
        "engine",
        load=Load(models=(ALONE,)),
    )
    yield Case("kill everything", killed_all, "all")
    yield Case("kill everything and the supervisor", killed_with_the_supervisor, "all")
    yield Case(
        "a long answer with many behind it",
        behind_a_long_answer,
        "answers",
        load=Load(streamers=2, commanders=0),
        seen_seconds_max=120,
    )
    yield Case("everything relayed again", everything_relayed_again, "relay")
    yield Case(
        "Kafka away",
        over_old_cursors(away("kafka", 6, 120)),
        "kafka",
        refusals=NO_ERRORS,
    )
    yield Case("Postgres away", away("postgres", 5, 30), "postgres")
    yield Case(
        "kill between any two side effects",
        between_any_two,
        "all",
        load=Load(streamers=8, commanders=2, tokens=(10, 30), delay_ms=10),
        seen_seconds_max=90,
        seconds_max=1_500,
    )
    for role in ROLES:
        yield Case(f"kill {role} between", at_a_failpoint(role), role, forms=LONG_ONLY)
    yield Case("storm of answers", storm("answers", short=12, long=180), "answers")
    yield from WORLD_CASES
    yield from FLEET_CASES


CASES = tuple(_cases())
