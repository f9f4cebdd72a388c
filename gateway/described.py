"""What clients say of a conversation and of a message: the same bounds wherever it is said."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from events.conversations import Attachment

TITLE_CHARACTERS_MAX = 256  # a line in a list
METADATA_PAIRS_MAX = 16  # these three are what OpenAI's API takes
METADATA_KEY_CHARACTERS_MAX = 64
METADATA_VALUE_CHARACTERS_MAX = 512
ATTACHMENTS_MAX = 32  # references of one message: with their names they are less than its event
URI_CHARACTERS_MAX = 2_048  # what browsers and servers agree on
NAME_CHARACTERS_MAX = 256  # file systems take 255
MEDIA_TYPE_CHARACTERS_MAX = 255  # RFC 6838: 127 for each of the two names, and the slash
ATTACHMENT_BYTES_MAX = 2**53 - 1  # what JSON readers keep exactly

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):[!-~]+")
_NO_REFERENCES = frozenset({"data", "javascript", "vbscript"})
"""Schemes whose URIs are themselves the content, or a program for the page that shows them."""
_MEDIA_TYPE = r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$"


def _reference(uri: str) -> str:
    found = _URI.fullmatch(uri)
    if found is None or found[1].lower() in _NO_REFERENCES:
        raise ValueError(
            "should be an absolute URI in ASCII, such as https://example.com/a.pdf; "
            "data: and scripts are no references"
        )
    return uri


Title = Annotated[str, Field(min_length=1, max_length=TITLE_CHARACTERS_MAX)]
Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=METADATA_KEY_CHARACTERS_MAX)],
        Annotated[str, Field(max_length=METADATA_VALUE_CHARACTERS_MAX)],
    ],
    Field(max_length=METADATA_PAIRS_MAX),
]


class AttachmentBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    uri: Annotated[str, Field(max_length=URI_CHARACTERS_MAX), AfterValidator(_reference)]
    name: Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX)] | None = None
    media_type: (
        Annotated[str, Field(pattern=_MEDIA_TYPE, max_length=MEDIA_TYPE_CHARACTERS_MAX)] | None
    ) = None
    bytes: Annotated[int, Field(ge=0, le=ATTACHMENT_BYTES_MAX)] | None = None


Attachments = Annotated[tuple[AttachmentBody, ...], Field(max_length=ATTACHMENTS_MAX, strict=False)]


def references(attachments: tuple[AttachmentBody, ...]) -> tuple[Attachment, ...]:
    return tuple(Attachment(**one.model_dump()) for one in attachments)
