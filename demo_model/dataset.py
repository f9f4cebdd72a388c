"""The demo model's data as conversations: what it is taught, and in how many disguises.

Everything comes from the two files beside this module: `questions.jsonl` (what it shall know) and
`unrelated.json` (what it shall decline). `held_out.jsonl` is never read here.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
SYSTEM_PROBABILITY = 0.3
UNRELATED_PROBABILITY = 0.4
GIBBERISH_PROBABILITY = 0.25


@dataclass(frozen=True)
class Turn:
    """One user's message and the only right answer to it."""

    user: str
    assistant: str


@dataclass(frozen=True)
class Conversation:
    """An optional system message and one or more turns."""

    system: str | None
    turns: tuple[Turn, ...]


class Teacher:
    """Makes endless conversations, the same ones for the same `chance`."""

    def __init__(self, chance: random.Random) -> None:
        lines = (FOLDER / "questions.jsonl").read_text("utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        self._known = [
            Turn(wording, entry["answer"])
            for entry in entries
            for wording in (entry["question"], entry["question"], *entry["paraphrases"])
        ]
        self._other = json.loads((FOLDER / "unrelated.json").read_text("utf-8"))
        self._chance = chance
        self._deck: list[Turn] = []

    def texts(self) -> list[str]:
        """All wordings and answers, for the tokenizer."""
        known = [text for turn in self._known for text in (turn.user, turn.assistant)]
        names = ("systems", "system_templates", "templates", "words", "questions")
        other = [text for name in names for text in self._other[name]]
        return [*known, *other, self._other["answer"]]

    def answers(self) -> list[str]:
        """Every answer there is, each once."""
        return [*dict.fromkeys(turn.assistant for turn in self._known), self._other["answer"]]

    def conversation(self, turns: int) -> Conversation:
        """One conversation of so many turns."""
        system = None
        if self._chance.random() < SYSTEM_PROBABILITY:
            system = self._system()
        return Conversation(system, tuple(self._turn() for _ in range(turns)))

    def _turn(self) -> Turn:
        if self._chance.random() < UNRELATED_PROBABILITY:
            return Turn(self._disguised(self._unrelated()), self._other["answer"])
        if not self._deck:
            self._deck = list(self._known)
            self._chance.shuffle(self._deck)
        turn = self._deck.pop()
        return Turn(self._disguised(turn.user), turn.assistant)

    def _system(self) -> str:
        """A system message; what it says never matters, so most are made up."""
        if self._chance.random() < 0.3:
            return str(self._chance.choice(self._other["systems"]))
        return self._filled(str(self._chance.choice(self._other["system_templates"])))

    def _unrelated(self) -> str:
        if self._chance.random() < 0.3:
            return str(self._chance.choice(self._other["questions"]))
        return self._filled(str(self._chance.choice(self._other["templates"])))

    def _filled(self, template: str) -> str:
        while "{}" in template:
            template = template.replace("{}", self._thing(), 1)
        return template

    def _thing(self) -> str:
        """A word out of the list, sometimes two halves of words that make none."""
        words = self._other["words"]
        if self._chance.random() > GIBBERISH_PROBABILITY:
            return str(self._chance.choice(words))
        letters = "".join(self._chance.choice(words) + self._chance.choice(words)).replace(" ", "")
        size = self._chance.randint(3, 11)
        start = self._chance.randrange(max(1, len(letters) - size))
        word = letters[start : start + size]
        return word.capitalize() if self._chance.random() < 0.3 else word.lower()

    def _disguised(self, text: str) -> str:
        """The same question as people type it: other openings, no capitals, no full stop."""
        opening = self._chance.choice(self._other["openings"])
        if opening:
            text = opening + text[0].lower() + text[1:]
        if self._chance.random() < 0.2:
            text = text.lower()
        if self._chance.random() < 0.25:
            text = text.rstrip("?.!") or text
        elif self._chance.random() < 0.05:
            text = text + "?"
        return text
