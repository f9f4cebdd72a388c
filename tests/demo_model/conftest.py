"""The demo model, asked as the local engine asks it."""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing

import pytest

from infra.local_engine.engine import LocalEngine
from infra.local_engine.main import DEMO_MODEL
from infra.local_engine.model import Model
from infra.local_engine.parameters import Parameters

Ask = Callable[[Sequence[Mapping[str, str]]], Awaitable[str]]
answer_tokens_max = 600


@pytest.fixture(scope="session")
def model() -> Generator[Model]:
    """The demo model, loaded."""
    loaded = Model(DEMO_MODEL)
    yield loaded
    loaded.close()


@pytest.fixture
async def ask(model: Model) -> Ask:
    """Greedy answers to messages; an answer must end by itself."""
    engine = LocalEngine(model, concurrent_requests_max=1)
    parameters = Parameters(max_new_tokens=answer_tokens_max)

    async def answer(messages: Sequence[Mapping[str, str]]) -> str:
        prompt = model.render(messages)
        tokens = engine.tokens(prompt, parameters, bos=False, streamed=True)
        async with aclosing(tokens):
            said = [token async for _, token in tokens]
        assert said[-1].finish_reason == "eos_token"
        return "".join(token.text for token in said if not token.special)

    return answer
