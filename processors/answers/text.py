"""Gathers an engine's tokens into pieces of text that may be shown.

What may be shown is whole characters that cannot turn out to be a part of a stop sequence. The text
ends where the first stop sequence is complete, just before it (of two that are complete at the same
character, before the longer). So it does not depend on how the engine cuts its tokens.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """Text with the tokens whose text it completes."""

    text: str
    tokens: int
    token_ids: tuple[int, ...] | None
    """None if the engine does not name them all."""


class TextGatherer:
    """The text of one call. Put tokens in with `add`, take what may be shown with `take`."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(sequence for sequence in stop if sequence)
        self._text = ""
        self._safe = 0  # of _text: may be shown
        self._tokens: deque[tuple[int, int | None]] = deque()  # where in _text each ends
        self._unfinished: list[int | None] = []  # tokens whose character is not complete
        self.stopped = False
        """A stop sequence is complete: nothing more is to be added."""

    @property
    def ready(self) -> int:
        """How many characters may be shown."""
        return self._safe

    @property
    def ready_bytes(self) -> int:
        return len(self._text[: self._safe].encode())

    def add(self, text: str, token_id: int | None = None) -> None:
        """The next token. An empty text is a part of the next token's character."""
        if self.stopped:
            return
        self._unfinished.append(token_id)
        if not text:
            return
        searched = self._safe  # a sequence that begins before was found before
        self._text += text
        for part in self._unfinished:
            self._tokens.append((len(self._text), part))
        self._unfinished.clear()
        end, start = min(
            (
                (at + len(sequence), at)
                for sequence in self._stop
                if (at := self._text.find(sequence, searched)) >= 0
            ),
            default=(-1, -1),
        )
        if end >= 0:
            self.stopped = True
            self._text = self._text[:start]
            self._safe = start
        else:
            self._safe = len(self._text) - self._possible_stop()

    def take(self) -> Piece:
        """What may be shown by now; it may be empty."""
        return self._cut(self._safe)

    def rest(self) -> Piece:
        """Everything, at the end of the call: no stop sequence can be completed any more."""
        for part in self._unfinished:
            self._tokens.append((len(self._text), part))
        self._unfinished.clear()
        self._tokens = deque((min(end, len(self._text)), part) for end, part in self._tokens)
        return self._cut(len(self._text))

    def _cut(self, length: int) -> Piece:
        text, self._text = self._text[:length], self._text[length:]
        ids: list[int | None] = []
        while self._tokens and self._tokens[0][0] <= length:
            ids.append(self._tokens.popleft()[1])
        self._tokens = deque((end - length, part) for end, part in self._tokens)
        self._safe = max(0, self._safe - length)
        named = tuple(part for part in ids if part is not None)
        return Piece(text, len(ids), named if ids and len(named) == len(ids) else None)

    def _possible_stop(self) -> int:
        """Length of the longest end of the text that is a beginning of a stop sequence."""
        for length in range(min(self._longest_beginning, len(self._text)), 0, -1):
            end = self._text[-length:]
            if any(sequence.startswith(end) for sequence in self._stop):
                return length
        return 0

    @property
    def _longest_beginning(self) -> int:
        return max((len(sequence) for sequence in self._stop), default=1) - 1
