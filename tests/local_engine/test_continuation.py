"""Greedily, an answer goes on in the same words from wherever it was cut."""

import json
from pathlib import Path

import pytest

from infra.local_engine.main import DEMO_MODEL
from tests.local_engine.exchanges import exchange, post

LINES = (Path(DEMO_MODEL).parent / "questions.jsonl").read_text("utf-8").splitlines()
# With characters of several bytes in them, or long.
CHOSEN = ("Why is it called Thalweg?", "What is a delta?", "Tell me the story of a river.")


@pytest.mark.parametrize("question", CHOSEN)
async def test_an_answer_continued_from_any_token_is_the_same(question: str, port: int) -> None:
    rendered = await exchange(
        port, post("/chat_tokenize", {"messages": [{"role": "user", "content": question}]})
    )
    prompt = rendered.json()["templated_text"].removeprefix("<s>")
    asked = {"inputs": prompt, "parameters": {"max_new_tokens": 600, "details": True}}
    whole = (await exchange(port, post("/generate", asked))).json()
    expected = {entry["question"]: entry["answer"] for entry in map(json.loads, LINES)}
    assert whole["generated_text"] == expected[question]
    said, budget = "", 600
    for token in whole["details"]["tokens"][:-1]:
        said += token["text"]
        budget -= 1
        if not token["text"]:
            continue  # half a character cannot be handed on
        rest = {"inputs": prompt + said, "parameters": {"max_new_tokens": budget}}
        answer = (await exchange(port, post("/generate", rest))).json()
        assert said + answer["generated_text"] == whole["generated_text"]
