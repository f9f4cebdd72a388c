"""Identifiers: what each is called, and how the ones that must repeat are derived.

Fresh ids are UUIDv7 (RFC 9562), which sort by time. Ids of things that a command makes are UUIDv5
of tenant and command id, so that the same command sent twice speaks of the same things.
"""

from collections.abc import Callable
from typing import NewType
from uuid import UUID, uuid5

import uuid_utils.compat
from pydantic import ConfigDict, TypeAdapter

TenantId = NewType("TenantId", UUID)
KeyId = NewType("KeyId", UUID)
ConversationId = NewType("ConversationId", UUID)
MessageId = NewType("MessageId", UUID)
AnswerId = NewType("AnswerId", UUID)
NodeId = UUID
"""A node of a conversation's message tree: a MessageId or an AnswerId."""


parse_id: Callable[[str], UUID] = TypeAdapter(
    UUID, config=ConfigDict(hide_input_in_errors=True)
).validator.validate_python
"""The id that a text stands for; ValueError if none. Five times as quick as UUID's own parser:
a rebuild would spend most of its decoding there."""


def fresh_id() -> UUID:
    """A new UUIDv7. Within one process each is greater than the one before."""
    return uuid_utils.compat.uuid7()


def derived_id(tenant: UUID, command: str, thing: str) -> UUID:
    """The id of the `thing` ("conversation", "message:0", "answer") that `command` makes."""
    return uuid5(tenant, f"{command}\n{thing}")
