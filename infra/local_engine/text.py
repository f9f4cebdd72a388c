"""Tokens to text while they come, and the rules by which a generation is finished.

Byte-level BPE can cut a character in half: the token with the first half has an empty text, and
the one that completes it has the whole character (as on TGI's wire).
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

FinishReason = Literal["length", "eos_token", "stop_sequence"]


@lru_cache(maxsize=1)
def bytes_of_letters() -> dict[str, int]:
    """GPT-2's table of one printable letter for each byte, turned round."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    rest = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + index): byte for index, byte in enumerate(rest)}


@dataclass(frozen=True, slots=True)
class Likely:
    """A token that could have been said."""

    id: int
    text: str
    logprob: float
    special: bool


@dataclass(frozen=True, slots=True)
class Said:
    """One token as the wire shows it; the last one has a finish reason."""

    id: int
    text: str
    logprob: float
    special: bool
    finish_reason: FinishReason | None
    top: tuple[Likely, ...] | None = None
    """The likeliest tokens in its place, if they were asked for."""


class Speech:
    """One generation's text so far. Give it the tokens in order."""

    def __init__(
        self, *, special: frozenset[str], end: str, tokens_max: int, stop: tuple[str, ...]
    ) -> None:
        self._special = special
        self._end = end
        self._tokens_max = tokens_max
        self._stop = stop
        self._tail_length = max((len(text) for text in stop), default=0)
        self._tail = ""
        self._count = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._letters = bytes_of_letters()

    def likely(self, number: int, token: str, logprob: float) -> Likely:
        """A token that was not said: by itself, so that a part of a character is a mark of it."""
        special = token in self._special
        text = token if special else self._bytes(token).decode("utf-8", "replace")
        return Likely(number, text, logprob, special)

    def add(
        self, number: int, token: str, logprob: float, top: tuple[Likely, ...] | None = None
    ) -> Said:
        """The next token, named as in the vocabulary."""
        self._count += 1
        special = token in self._special
        text = token if special else self._decoded(token)
        if self._tail_length and not special:
            self._tail = (self._tail + text)[-self._tail_length :]
        return Said(number, text, logprob, special, self._finished(token), top)

    def _decoded(self, token: str) -> str:
        return self._decoder.decode(self._bytes(token))

    def _bytes(self, token: str) -> bytes:
        return bytes(self._letters[letter] for letter in token)

    def _finished(self, token: str) -> FinishReason | None:
        # In the order of TGI's server: the limit wins over the end, the end over a stop sequence,
        # which counts only where the text ends with it.
        if self._count >= self._tokens_max:
            return "length"
        if token == self._end:
            return "eos_token"
        if any(self._tail.endswith(stop) for stop in self._stop):
            return "stop_sequence"
        return None
