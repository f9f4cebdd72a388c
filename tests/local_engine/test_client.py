"""The official `text-generation` client, which was written for TGI, works with the local engine."""

import pytest
from text_generation import AsyncClient
from text_generation.errors import ValidationError
from text_generation.types import FinishReason

# The client calls pydantic's old names; that is its own matter.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")

PROMPT = "<|user|>What is a confluence?<|end|><|assistant|>"
BEGINNING = "A confluence is the place where two rivers meet."


async def test_it_generates(port: int) -> None:
    client = AsyncClient(f"http://127.0.0.1:{port}")
    response = await client.generate(PROMPT, max_new_tokens=200)
    assert response.generated_text.startswith(BEGINNING)
    assert response.details.finish_reason == FinishReason.EndOfSequenceToken
    assert len(response.details.tokens) == response.details.generated_tokens


async def test_it_streams(port: int) -> None:
    client = AsyncClient(f"http://127.0.0.1:{port}")
    parts = [part async for part in client.generate_stream(PROMPT, max_new_tokens=200)]
    text = "".join(part.token.text for part in parts if not part.token.special)
    assert text.startswith(BEGINNING)
    assert parts[-1].generated_text == text
    assert parts[-1].details is not None
    assert parts[-1].details.finish_reason == FinishReason.EndOfSequenceToken


async def test_it_chats(port: int) -> None:
    client = AsyncClient(f"http://127.0.0.1:{port}")
    answer = await client.chat(
        messages=[{"role": "user", "content": "What is a confluence?"}], max_tokens=200
    )
    assert answer.choices[0].message.content.startswith(BEGINNING)


async def test_it_understands_a_refusal(port: int) -> None:
    client = AsyncClient(f"http://127.0.0.1:{port}")
    with pytest.raises(ValidationError, match="must be <= 4096"):
        await client.generate("x", max_new_tokens=5000)
