"""An answer that one engine begins and another ends, through a whole worker: each token once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.answers import Fold
from events.conversations import EndKind
from infra.engine_addresses import EngineAddress
from tests.contracts.worker.asking import Installation, numbers
from tests.contracts.worker.conftest import StartWorker
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import wait_for

STALL_SECONDS = 5.0
"""Between two tokens; an engine that says one each 5 ms and then none for so long has stalled."""
PER_CALL = 1_024
"""Tokens that TGI gives in a call, at most."""
LONG = 2 * PER_CALL + 300
FRAME_TOKENS = 4
"""Of a prompt, besides its words: its beginning, whose turn it is, that turn's end, and whose is
next."""
DRAIN_SECONDS = 60.0
"""An engine that is told to stop finishes its calls within it."""


@pytest.fixture
def engines(installation: Installation, tmp_path: Path) -> Iterator[list[NumberedEngine]]:
    """Two, which are all that workers know."""
    drain = ("--drain-seconds", str(DRAIN_SECONDS))
    two = [NumberedEngine(tmp_path, *drain) for _ in range(2)]
    addresses = tuple(EngineAddress.parse(f"tgi+http://{one.address}") for one in two)
    changed = {"engines": addresses, "engine_between_tokens_seconds_max": STALL_SECONDS}
    installation.settings = installation.settings.model_copy(update=changed)
    yield [one.listens() for one in two]
    for one in two:
        one.stop()


def check_once(said: Fold, asked: str, tokens: int) -> None:
    """All of the answer's tokens, each once, in text and in count; and those of the prompt."""
    assert said.text == numbers(tokens)
    assert said.tokens == tokens
    assert said.end is not None
    assert (said.end.kind, said.end.reason) == (EndKind.FINISH, "stop")
    assert said.end.usage.completion_tokens == tokens
    assert said.end.usage.prompt_tokens == len(asked.split()) + FRAME_TOKENS


async def test_after_a_stall_the_answer_goes_on_at_another_engine_and_the_stalled_call_is_closed(
    installation: Installation, start_worker: StartWorker, engines: list[NumberedEngine]
) -> None:
    start_worker()
    asked = "tokens=40 delay_ms=5 hang_after=7"
    _, answer, _ = await installation.ask(asked)
    check_once(await installation.ended(answer), asked, 40)
    began, went_on = sorted((one.calls() for one in engines), key=lambda one: one.get("tokens", 0))
    assert (began["tokens"], went_on["tokens"]) == (7, 33)
    assert (went_on["continuations"], went_on["finished"]) == (1, 1)
    assert "continuations" not in began
    wait_for(lambda: any(one.calls().get("cancelled") for one in engines), "the call's closing")
    assert [one.calls()["open"] for one in engines] == [0, 0]
    assert len(installation.log.claims(answer)) == 2
    await installation.acknowledged()


async def test_an_answer_longer_than_a_call_goes_on_in_further_calls_and_is_counted_once(
    installation: Installation, start_worker: StartWorker, engines: list[NumberedEngine]
) -> None:
    start_worker()
    asked = f"tokens={LONG}"
    _, answer, _ = await installation.ask(asked, tokens_max=2 * LONG)
    check_once(await installation.ended(answer), asked, LONG)
    (spoke,) = [calls for one in engines if (calls := one.calls()).get("generations")]
    assert spoke["generations"] == 3, "all at the engine that has the prefix"
    seams = [chunk.index for chunk in installation.log.chunks(answer) if chunk.seam]
    assert len(seams) == 2
    assert len(installation.log.claims(answer)) == 1
    await installation.acknowledged()


async def test_a_further_call_goes_to_another_engine_when_the_first_has_gone_meanwhile(
    installation: Installation, start_worker: StartWorker, engines: list[NumberedEngine]
) -> None:
    start_worker()
    asked = f"tokens={LONG} delay_ms=4"
    _, answer, _ = await installation.ask(asked, tokens_max=2 * LONG)
    await installation.until(lambda: installation.log.of(answer).tokens > 10, "some text")
    (first,) = [one for one in engines if one.calls().get("generations")]
    (other,) = [one for one in engines if one is not first]
    first.process.signal(signal.SIGTERM)
    check_once(await installation.ended(answer), asked, LONG)
    calls = other.calls()
    assert calls["continuations"] == calls["generations"] == 2
    assert calls["tokens"] == LONG - PER_CALL, "the first engine has said what it was asked for"
    assert first.process.returncode == 0
    await installation.acknowledged()
