"""Work as tests make it."""

from itertools import count
from typing import Any
from uuid import UUID

from events.conversations import Band
from events.ids import AnswerId, ConversationId
from processors.answers.scheduling.work import Queued

FOR_EVER = 1e9
_numbers = count(1)


def tenant(number: int) -> UUID:
    return UUID(int=number)


def work(**fields: Any) -> Queued:
    """Of tenant 1, in the default band, asked at 0, without a deadline that matters."""
    number = next(_numbers)
    whose = fields.pop("tenant", 1)
    made: dict[str, Any] = {
        "answer": AnswerId(UUID(int=number)),
        "conversation": ConversationId(UUID(int=number)),
        "tenant": tenant(whose) if isinstance(whose, int) else whose,
        "band": Band.DEFAULT,
        "model": "m",
        "tokens": 100,
        "asked_at": 0.0,
        "deadline": FOR_EVER,
    }
    return Queued(**{**made, **fields})
