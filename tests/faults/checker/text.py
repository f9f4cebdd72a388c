"""A text that says which token of which call each part is, ` 0@c7 1@c7 2@c9`, judged by itself."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.checker.words import Anomaly

TOKEN = re.compile(r" (\d+)@c(\d+)")


@dataclass(frozen=True, slots=True)
class Said:
    """One token of a text."""

    number: int
    """Its place among the answer's tokens, as the engine counts them."""
    call: int
    """Which call of all engines has said it."""
    chunk: int
    """In which of the chunks it begins."""


def parsed(chunks: Sequence[str]) -> list[Said] | None:
    """The tokens of a text that came in these chunks; None if it has anything else in it."""
    starts = [which for which, chunk in enumerate(chunks) for _ in chunk]
    text = "".join(chunks)
    found = list(TOKEN.finditer(text))
    if "".join(one[0] for one in found) != text:
        return None
    return [Said(int(one[1]), int(one[2]), starts[one.start()]) for one in found]


def check_text(where: str, chunks: Sequence[str], wanted: int) -> Iterator[Anomaly]:
    """Of what was said: no token is lost, said twice, or of a call that was replaced. `wanted`: so
    many tokens at least."""
    said = parsed(chunks)
    if said is None:
        yield Anomaly("garbled", where, repr("".join(chunks)))
        return
    for place, one in enumerate(said):
        if one.number != place:
            name = "lost token" if one.number > place else "repeated token"
            yield Anomaly(name, where, f"{one.number} at the place of {place}")
            break
    past: set[int] = set()
    for before, one in switches(said):
        past.add(before.call)
        if one.call in past:
            yield Anomaly("splice", where, f"at {one.number} call {one.call} speaks again")
    if len(said) < wanted:
        yield Anomaly("truncated", where, f"{len(said)} of {wanted} tokens")


def switches(said: Sequence[Said]) -> Iterator[tuple[Said, Said]]:
    """The last token of one call and the first of the next, wherever another one speaks on."""
    for before, one in pairwise(said):
        if one.call != before.call:
            yield before, one
