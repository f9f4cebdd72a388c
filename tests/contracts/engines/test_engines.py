"""What every Engine does: both adapters against a real server that says numbered tokens."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from aiohttp import web

from events.conversations import Role, Sampling
from infra.engine_addresses import EngineAddress
from infra.engines import open_engine
from infra.engines.tgi import TgiEngine
from infra.limits import Limits
from processors.answers.engine import (
    Engine,
    EngineRefused,
    Finished,
    FinishReason,
    Message,
    Prompt,
    Token,
)
from tests.contracts.engines.drive import Failed, Said, outcome, prompt
from tests.fixtures.numbered_engine import NumberedEngine
from tests.fixtures.numbered_faults import SPOKEN_TOKENS, Fault, Faults

CONTEXT_TOKENS = 60
SECONDS_MAX = 30
LIMITS = Limits(engine_first_token_seconds_max=3, engine_between_tokens_seconds_max=3)


def numbers(first: int, end: int) -> tuple[str, ...]:
    return tuple(f" {number}" for number in range(first, end))


@pytest.fixture
def numbered() -> NumberedEngine:
    return NumberedEngine(tokens=5, context_tokens=CONTEXT_TOKENS)


@pytest.fixture(params=["tgi", "openai"])
async def engine(request: pytest.FixtureRequest, numbered: NumberedEngine) -> AsyncIterator[Engine]:
    runner = web.AppRunner(numbered.app(), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    path = "/v1" if request.param == "openai" else ""
    opened = open_engine(EngineAddress(kind=request.param, url=url + path), LIMITS)
    yield opened
    await opened.close()
    await runner.cleanup()


async def test_it_says_its_tokens_and_why_it_stopped(engine: Engine) -> None:
    came = await outcome(engine, prompt("hello"))
    assert isinstance(came, Said)
    assert (came.tokens, came.reason) == (numbers(0, 5), FinishReason.STOP)
    assert came.prompt_tokens is not None
    assert came.counted is not None


async def test_it_continues_what_was_said(engine: Engine, numbered: NumberedEngine) -> None:
    came = await outcome(engine, prompt("a", "b", "hello", said=" 0 1 2"))
    assert isinstance(came, Said)
    assert (came.tokens, came.reason) == (numbers(3, 5), FinishReason.STOP)
    assert numbered.calls["continuations"] == 1


@pytest.mark.parametrize("said", [" 0 1 2 \n\n", " 0 <|end|> 1 2", ' "\\ é\0 😀 2', "a 2"])
async def test_what_was_said_is_continued_exactly(engine: Engine, said: str) -> None:
    came = await outcome(engine, prompt("hello", said=said))
    assert isinstance(came, Said)
    assert came.tokens == numbers(3, 5)


async def test_an_answer_that_was_whole_gets_nothing_added(engine: Engine) -> None:
    came = await outcome(engine, prompt("tokens=3", said=" 0 1 2"))
    assert isinstance(came, Said)
    assert (came.tokens, came.reason) == ((), FinishReason.STOP)


async def test_it_stops_at_the_budget(engine: Engine) -> None:
    came = await outcome(engine, prompt("hello", tokens_max=2))
    assert isinstance(came, Said)
    assert (came.tokens, came.reason) == (numbers(0, 2), FinishReason.LENGTH)


async def test_a_stop_sequence_reaches_the_engine(engine: Engine) -> None:
    sampling = Sampling(max_tokens=9, stop=(" 3", "never", "nor this", "nor that", " 1"))
    came = await outcome(engine, prompt("hello", sampling=sampling))
    assert isinstance(came, Said)
    assert came.reason is FinishReason.STOP
    assert came.tokens[:3] == numbers(0, 3)  # only four are sent: the worker sees the fifth
    assert came.tokens[3:] in ((), (" 3",))


async def test_an_overloaded_engine_says_so(engine: Engine, numbered: NumberedEngine) -> None:
    assert await outcome(engine, prompt("overloaded=1")) == Failed("Overloaded")
    assert isinstance(await outcome(engine, prompt("overloaded=1")), Said)
    assert numbered.calls["generations"] == 1


async def test_a_wrong_request_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineRefused, match="told to refuse"):
        await anext(engine.generate(prompt("invalid")))


async def test_it_fails_in_the_middle_and_goes_on_from_there(engine: Engine) -> None:
    for message in ("fail_after=3", "break_after=3 delay_ms=5"):
        assert await outcome(engine, prompt(message)) == Failed("EngineFailed", numbers(0, 3))
        came = await outcome(engine, prompt(message, said=" 0 1 2"))
        assert isinstance(came, Said)
        assert came.tokens == numbers(3, 5)


async def test_it_fails_before_the_first_token(engine: Engine) -> None:
    assert await outcome(engine, prompt("fail_after=0")) == Failed("EngineFailed")


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (Fault.DROP, "EngineFailed", 0),
        (Fault.STATUS, "Overloaded", 0),
        (Fault.OVERLOADED, "Overloaded", 0),
        (Fault.ERROR, "EngineFailed", 0),
        (Fault.HANG, "EngineFailed", 0),
        (Fault.STALL, "EngineFailed", SPOKEN_TOKENS),
        (Fault.CUT, "EngineFailed", SPOKEN_TOKENS),
        (Fault.GARBAGE, "EngineFailed", SPOKEN_TOKENS),
        (Fault.NO_REASON, "EngineFailed", SPOKEN_TOKENS),
    ],
)
async def test_a_faulty_engine_is_found_out(
    engine: Engine, numbered: NumberedEngine, fault: Fault, error: str, said: int
) -> None:
    numbered.fail_by(Faults((fault,)))
    came = await outcome(engine, prompt("tokens=8 delay_ms=1"))
    assert came == Failed(error, numbers(0, said))
    assert numbered.calls["struck"]  # twice, where a connection that was kept alive was dropped


async def test_an_engine_that_trickles_is_heard_out(
    engine: Engine, numbered: NumberedEngine
) -> None:
    numbered.fail_by(Faults((Fault.TRICKLE,)))
    came = await outcome(engine, prompt("tokens=4"))
    assert isinstance(came, Said)
    assert (came.tokens, came.reason) == (numbers(0, 4), FinishReason.STOP)


async def test_closing_cancels_the_work_at_once(engine: Engine, numbered: NumberedEngine) -> None:
    async with aclosing(engine.generate(prompt("hang_after=2"))) as spoken:
        assert [(await anext(spoken)), (await anext(spoken))]
        assert numbered.open_calls.open == 1
    async with asyncio.timeout(SECONDS_MAX):
        await numbered.idle.wait()
    assert numbered.calls["cancelled"] == 1


async def test_a_full_context_shortens_what_is_asked_and_says_so(engine: Engine) -> None:
    asked = prompt("tokens=100 " + "x " * 20, tokens_max=90)
    said = [one async for one in engine.generate(asked)]
    last = said[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.context_full) == (FinishReason.LENGTH, True)
    assert last.prompt_tokens is not None
    assert last.prompt_tokens + len(said) - 1 == CONTEXT_TOKENS


async def test_a_continuation_without_room_is_finished(engine: Engine) -> None:
    said = "".join(numbers(0, CONTEXT_TOKENS))
    came = [one async for one in engine.generate(prompt("tokens=100", said=said))]
    assert came == [Finished(FinishReason.LENGTH, tokens=0, context_full=True)]


async def test_a_transcript_without_room_is_refused(engine: Engine) -> None:
    assert await outcome(engine, prompt("x " * 2 * CONTEXT_TOKENS)) == Failed("EngineRefused")


async def test_many_at_once_are_kept_apart(engine: Engine) -> None:
    asked = [prompt(f"tokens={n} delay_ms=1") for n in range(1, 33)]
    came = await asyncio.gather(*(outcome(engine, one) for one in asked))
    for n, one in enumerate(came, start=1):
        assert one.tokens == numbers(0, n)


async def test_connections_are_used_again_and_are_quick(
    engine: Engine, numbered: NumberedEngine
) -> None:
    for _ in range(5):
        await outcome(engine, prompt("hello"))
    await engine.healthy()
    session = engine._http._session  # type: ignore[attr-defined]  # there is no other way to see it
    [idle] = [one for held in session.connector._conns.values() for one, _ in held]
    opened = idle.transport.get_extra_info("socket")
    assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_it_names_its_model_and_its_health(engine: Engine) -> None:
    assert await engine.models() == ("numbered",)
    assert await engine.healthy() is True


async def test_a_rendering_is_asked_for_once(numbered: NumberedEngine, engine: Engine) -> None:
    for said in ("", " 0", " 0 1"):
        await outcome(engine, prompt("hello", said=said))
    if isinstance(engine, TgiEngine):
        assert numbered.calls["chat_tokenize"] == 1
        assert numbered.calls["double_bos"] == 0
    assert numbered.calls["generations"] == 3


async def test_a_system_message_and_odd_text_arrive(engine: Engine) -> None:
    messages = (
        Message(Role.SYSTEM, "sys\0\u2028"),
        Message(Role.USER, "é😀"),
        Message(Role.ASSISTANT, "a"),
        Message(Role.USER, "tokens=2"),
    )
    came = await outcome(engine, Prompt(messages, "", Sampling(max_tokens=9), 9))
    assert isinstance(came, Said)
    assert came.tokens == numbers(0, 2)


async def test_it_says_how_likely_each_token_was(engine: Engine) -> None:
    sampling = Sampling(max_tokens=100, logprobs=True, top_logprobs=2)
    async with aclosing(engine.generate(prompt("tokens=3", sampling=sampling))) as said:  # type: ignore[type-var]
        tokens = [one async for one in said if isinstance(one, Token)]
    assert [one.text for one in tokens] == list(numbers(0, 3))
    assert [one.logprob for one in tokens] == [-0.5] * 3
    assert [one.top for one in tokens] == [((f" {k}", -0.5), (f" {k + 1}", -1.5)) for k in range(3)]


async def test_a_continuation_says_it_too(engine: Engine) -> None:
    sampling = Sampling(max_tokens=100, logprobs=True)
    asked = prompt("tokens=3", said=" 0", sampling=sampling)
    async with aclosing(engine.generate(asked)) as said:  # type: ignore[type-var]
        tokens = [one async for one in said if isinstance(one, Token)]
    assert [(one.text, one.logprob, one.top) for one in tokens] == [
        (" 1", -0.5, ()), (" 2", -0.5, ())
    ]  # fmt: skip
