"""Gathers an engine's tokens into pieces of text that may be shown.

What may be shown is whole characters that cannot turn out to be a part of a stop sequence. The text
ends where the first stop sequence is complete, just before it (of two that are complete at the same
character, before the longer). So it does not depend on how the engine cuts its tokens.

A token's log probability goes with the piece in which its text ends; what a stop sequence cuts off,
if only in part, has none.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from events.answers import Fold, Logprobs
from events.conversations import TokenLogprob

LOGPROBS_OF_CHUNK_BYTES = 3
"""The brackets and the comma around a chunk's logprobs in AnswerEnded."""


_Part = tuple[int | None, TokenLogprob | None]
"""A token's id and log probability."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text with the tokens whose text it completes."""

    text: str
    tokens: int
    token_ids: tuple[int, ...] | None
    """None if the engine does not name them all."""
    logprobs: Logprobs = ()


class TextGatherer:
    """The text of one call. Put tokens in with `add`, take what may be shown with `take`.

    `logprobs_bytes_max` is what log probabilities may still take in the recorded answer; 0: none
    are wanted. From the first token on that does not fit there are none. Each has at most
    `top_logprobs` of the likeliest tokens.
    """

    def __init__(
        self, stop: Sequence[str] = (), *, logprobs_bytes_max: int = 0, top_logprobs: int = 0
    ) -> None:
        self._stop = tuple(sequence for sequence in stop if sequence)
        self._text = ""
        self._safe = 0  # of _text: may be shown
        self._tokens: deque[tuple[int, _Part]] = deque()  # where in _text each ends
        self._unfinished: list[_Part] = []  # tokens whose character is not complete
        self._logprobs_bytes = logprobs_bytes_max
        self._top_logprobs = top_logprobs
        self.stopped = False
        """A stop sequence is complete: nothing more is to be added."""

    @property
    def ready(self) -> int:
        """How many characters may be shown."""
        return self._safe

    @property
    def ready_bytes(self) -> int:
        return len(self._text[: self._safe].encode())

    def add(
        self,
        text: str,
        token_id: int | None = None,
        logprob: float | None = None,
        top: Sequence[tuple[str, float]] = (),
    ) -> None:
        """The next token. An empty text is a part of the next token's character."""
        if self.stopped:
            return
        one = None
        if logprob is not None and self._logprobs_bytes and math.isfinite(logprob):
            likeliest = tuple(each for each in top if math.isfinite(each[1]))
            likeliest = likeliest[: self._top_logprobs]
            one = TokenLogprob(token=text, logprob=logprob, top=likeliest)
        self._unfinished.append((token_id, one))
        if not text:
            return
        searched = self._safe  # a sequence that begins before was found before
        self._text += text
        for part in self._unfinished:
            self._tokens.append((len(self._text), part))
        self._unfinished.clear()
        if not self._stop:
            self._safe = len(self._text)
            return
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
        end = len(self._text)
        self._tokens = deque(
            (at, part) if at <= end else (end, (part[0], None)) for at, part in self._tokens
        )
        return self._cut(end)

    def _cut(self, length: int) -> Piece:
        text, self._text = self._text[:length], self._text[length:]
        parts: list[_Part] = []
        while self._tokens and self._tokens[0][0] <= length:
            parts.append(self._tokens.popleft()[1])
        self._tokens = deque((end - length, part) for end, part in self._tokens)
        self._safe = max(0, self._safe - length)
        named = tuple(number for number, _ in parts if number is not None)
        ids = named if parts and len(named) == len(parts) else None
        logprobs = self._fitting_logprobs(parts) if text and self._logprobs_bytes else ()
        return Piece(text, len(parts), ids, logprobs)

    def _fitting_logprobs(self, parts: list[_Part]) -> Logprobs:
        self._logprobs_bytes = max(0, self._logprobs_bytes - LOGPROBS_OF_CHUNK_BYTES)
        fitting: list[TokenLogprob] = []
        for _, one in parts:
            if one is not None:
                self._logprobs_bytes = max(0, self._logprobs_bytes - _size(one))
                if not self._logprobs_bytes:
                    break
                fitting.append(one)
        return tuple(fitting)

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


def logprobs_bytes_left(said: Fold, bytes_max: int) -> int:
    """What log probabilities may still take after `said`; 0 once a chunk has none, since one of its
    did not fit, or the engine gave none."""
    if len(said.logprobs) < said.next_index:
        return 0
    used = LOGPROBS_OF_CHUNK_BYTES * said.next_index
    used += sum(_size(one) for chunk in said.logprobs for one in chunk)
    return max(0, bytes_max - used)


def _size(one: TokenLogprob) -> int:
    """Bytes that it takes in AnswerEnded, with its comma."""
    return len(one.__pydantic_serializer__.to_json(one)) + 1


def fitting(text: str, size: int) -> str:
    """The longest beginning of `text` of at most `size` bytes of UTF-8, in whole characters."""
    encoded = text.encode()
    return text if len(encoded) <= size else encoded[: max(0, size)].decode(errors="ignore")


def within(text: str, logprobs: Logprobs) -> Logprobs:
    """Of the tokens that end in `text`, of which more was said."""
    end, kept = 0, 0
    for one in logprobs:
        end += len(one.token)
        if end > len(text):
            break
        kept += 1
    return logprobs[:kept]
