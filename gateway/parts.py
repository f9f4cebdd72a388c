"""What a gateway is put together from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from commands.conversations import Conversation
from commands.submit import Commands
from events.ids import fresh_id
from gateway.limits import GatewayLimits
from gateway.log.ports import EventLog
from gateway.ports import Admission, Answers, Health, Keys, Models, Receipts, Streams
from gateway.read_ports import Changes, Histories, UsageSums


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The ports of one gateway. `conversations` and `receipts` speak of the same event store."""

    conversations: Commands[Conversation]
    receipts: Receipts
    keys: Keys
    answers: Answers
    streams: Streams
    models: Models
    admission: Admission
    health: Health
    logs: Mapping[str, EventLog]
    """By context."""
    histories: Histories
    changes: Changes
    usage: UsageSums
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    now: Callable[[], datetime] = utc_now
    new_id: Callable[[], UUID] = fresh_id
