"""Any text in a column of Postgres, which can't hold NUL: an escape that leaves all others alone.

In what is stored, SUBSTITUTE (U+001A) is always followed by 0 or 1. So a mark that begins with it
and goes on otherwise, as around the words that a search has found, can't be taken for the text.
"""

import hashlib
from uuid import UUID

ESCAPE = "\x1a"
_ESCAPED_NUL = "\x1a0"
_ESCAPED_ESCAPE = "\x1a1"


def storable(text: str) -> str:
    """The text as a column has it; `exact` is the inverse."""
    if ESCAPE in text:
        text = text.replace(ESCAPE, _ESCAPED_ESCAPE)
    return text.replace("\0", _ESCAPED_NUL) if "\0" in text else text


def exact(stored: str) -> str:
    """The text that was stored."""
    if ESCAPE not in stored:
        return stored
    return stored.replace(_ESCAPED_NUL, "\0").replace(_ESCAPED_ESCAPE, ESCAPE)


def storable_or_none(text: str | None) -> str | None:
    """Of a column that may be null."""
    return None if text is None else storable(text)


def exact_or_none(stored: str | None) -> str | None:
    """The inverse of `storable_or_none`."""
    return None if stored is None else exact(stored)


def subject_digest(tenant: UUID, subject: str) -> str:
    """16 hexadecimal digits for a data subject of a tenant: short, and not the name itself."""
    return hashlib.sha256(tenant.bytes + subject.encode()).hexdigest()[:16]
