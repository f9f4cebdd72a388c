"""Where a reader of a feed is: the `id` of its frames.

It holds the number of the last change of the user's conversations, and of each answer whose chunks
the feed carries at the moment, the next index. So one id covers both, and any gateway can go on.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

FOLLOWED_MAX = 16
"""Answers whose chunks one feed carries at once: an id has 30 bytes for each."""

_ID = re.compile(rf"([0-9]{{1,18}})((?:,[A-Za-z0-9_-]{{22}}:[0-9]{{1,9}}){{0,{FOLLOWED_MAX}}})")


@dataclass(frozen=True, slots=True)
class FeedCursor:
    number: int
    answers: Mapping[UUID, int] = field(default_factory=dict)
    """The next index of each."""

    def __str__(self) -> str:
        return ",".join([str(self.number), *map(_pack, self.answers.items())])


def parse(text: str) -> FeedCursor | None:
    """The inverse of `str`; None for anything else."""
    found = _ID.fullmatch(text)
    if found is None:
        return None
    answers = {}
    for part in found[2].split(",")[1:]:
        name, _, index = part.partition(":")
        answers[UUID(bytes=base64.urlsafe_b64decode(f"{name}=="))] = int(index)
    return FeedCursor(int(found[1]), answers)


def _pack(item: tuple[UUID, int]) -> str:
    answer, index = item
    return f"{base64.urlsafe_b64encode(answer.bytes)[:22].decode()}:{index}"
