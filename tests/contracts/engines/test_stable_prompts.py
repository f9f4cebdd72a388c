"""What an engine is sent for a turn begins with what it was sent for the turn before, byte for
byte: else it holds no prefix of it, and reads the whole conversation again.
"""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import jinja2
import pytest
from aiohttp import web

from infra.engines.tgi import TgiEngine
from infra.local_engine.main import DEMO_MODEL
from tests.contracts.engines.drive import Said, outcome, prompt
from tests.fixtures.numbered_engine import NumberedEngine

ODD = (" hello \n", "\n\n {{ messages }} \\ é\u2028", "<|end|>", "0")


@pytest.fixture
async def sent() -> AsyncIterator["Sent"]:
    numbered = NumberedEngine(tokens=5)
    runner = web.AppRunner(numbered.app(), handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine = TgiEngine(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield Sent(numbered, engine)
    await engine.close()
    await runner.cleanup()


class Sent:
    """What an engine is sent for a transcript, and what it says."""

    def __init__(self, numbered: NumberedEngine, engine: TgiEngine) -> None:
        self._numbered, self._engine = numbered, engine

    async def turn(self, contents: Sequence[str], said: str = "") -> tuple[str, str]:
        came = await outcome(self._engine, prompt(*contents, said=said))
        assert isinstance(came, Said)
        assert self._numbered._prompt is not None
        return self._numbered._prompt, "".join(came.tokens)


async def test_a_turn_begins_with_the_turn_before(sent: Sent) -> None:
    contents: list[str] = []
    before = ""
    for message in ODD:
        contents.append(message)
        prompted, said = await sent.turn(contents)
        assert prompted.startswith(before)
        before = prompted + said
        contents.append(said)


async def test_a_continuation_begins_with_the_call_before(sent: Sent) -> None:
    prompted, _ = await sent.turn(ODD[:1])
    for said in (" 0", " 0 1 \n", " 0 1 \n2"):
        continued, _ = await sent.turn(ODD[:1], said)
        assert continued == prompted + said


async def test_a_new_engine_is_sent_the_same(sent: Sent) -> None:
    first, _ = await sent.turn(ODD[:3])
    sent._engine._forget()  # as after a failure, or in another worker
    assert (await sent.turn(ODD[:3]))[0] == first


def test_the_demo_models_template_is_stable() -> None:
    text = (Path(DEMO_MODEL).parent / "chat_template.jinja").read_text("utf-8")
    template = jinja2.Environment(autoescape=False).from_string(text)
    messages: list[dict[str, str]] = []
    before = ""
    for message in ODD:
        messages.append({"role": "user", "content": message})
        rendered = template.render(messages=messages, bos_token="<s>", add_generation_prompt=True)
        assert rendered.startswith(before)
        before = rendered + message.upper()
        messages.append({"role": "assistant", "content": message.upper()})
