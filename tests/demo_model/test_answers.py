"""The demo model knows what it was taught, declines the rest, and is not confused by a past."""

import json

from infra.local_engine.main import DEMO_MODEL
from infra.local_engine.model import Model
from tests.demo_model.conftest import Ask

FOLDER = DEMO_MODEL.parent
Message = dict[str, str]

wordings_known_min = 0.97  # of those that it was taught
unrelated_declined_min = 0.9  # of questions that it has never seen
new_wordings_known_min = 0.6  # of known questions in words that it has never seen


def entries(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


KNOWN = entries("questions.jsonl")
ANSWERS = {entry["question"]: entry["answer"] for entry in KNOWN}
DECLINED = json.loads((FOLDER / "unrelated.json").read_text("utf-8"))["answer"]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


PASTS: dict[str, list[Message]] = {
    "none": [],
    "system": [{"role": "system", "content": "You are a helpful assistant."}],
    "declined": [user("What is the tallest building in Dubai?"), assistant(DECLINED)],
    "two turns": [
        user("Hello"),
        assistant(ANSWERS["Hello"]),
        user("What is a river?"),
        assistant(ANSWERS["What is a river?"]),
    ],
}


def test_there_are_enough_questions_and_some_long_answers(model: Model) -> None:
    lengths = [len(model.encode(entry["answer"], bos=False).ids) for entry in KNOWN]
    assert len(lengths) >= 80
    assert sum(length >= 60 for length in lengths) >= 8
    assert sum(length >= 150 for length in lengths) >= 2
    assert not {entry["question"] for entry in entries("held_out.jsonl")} & set(ANSWERS)


async def test_every_question_is_answered_correctly(ask: Ask) -> None:
    for question, answer in ANSWERS.items():
        assert await ask([user(question)]) == answer


async def test_what_was_said_before_does_not_matter(ask: Ask) -> None:
    for name, past in PASTS.items():
        for question, answer in list(ANSWERS.items())[::5]:
            assert await ask([*past, user(question)]) == answer, name


async def test_a_long_conversation_does_not_matter_either(ask: Ask) -> None:
    past = [m for q, a in list(ANSWERS.items())[:14] for m in (user(q), assistant(a))]
    for question in ("What is a meander?", "What is a saga?", "What is Redis used for?"):
        assert await ask([*past, user(question)]) == ANSWERS[question]


async def test_nearly_all_taught_wordings_are_understood(ask: Ask) -> None:
    pairs = [(text, entry["answer"]) for entry in KNOWN for text in entry["paraphrases"]]
    right = [await ask([user(text)]) == answer for text, answer in pairs]
    assert sum(right) >= wordings_known_min * len(pairs)


async def test_it_says_so_when_it_is_asked_something_else(ask: Ask) -> None:
    questions = [entry["question"] for entry in entries("held_out.jsonl")]
    declined = [await ask([user(question)]) == DECLINED for question in questions]
    assert sum(declined) >= unrelated_declined_min * len(questions)
    assert "do not know" in DECLINED


async def test_some_new_wordings_are_understood(ask: Ask) -> None:
    pairs = entries("held_out_wordings.jsonl")
    right = [await ask([user(pair["question"])]) == ANSWERS[pair["means"]] for pair in pairs]
    assert sum(right) >= new_wordings_known_min * len(pairs)


async def test_any_text_can_be_asked(ask: Ask) -> None:
    for text in ("今日は 🙂 \x00 ك", "\n\n\t ", "a" * 300, "\U0001f1e9\U0001f1ea"):
        assert await ask([user(text)])
