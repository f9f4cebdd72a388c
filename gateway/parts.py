"""What a gateway is put together from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from commands.conversations import Conversation
from commands.submit import Commands
from events.ids import fresh_id
from gateway.fleet.view import FleetView
from gateway.limits import GatewayLimits
from gateway.log.ports import EventLog
from gateway.meter import UNMEASURED, Meter
from gateway.openai.ports import CompletionList, Recordings
from gateway.ports import Admission, Answers, Health, Keys, Models, Receipts, Streams, Turns
from gateway.read_ports import Changes, Histories, UsageSums


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The ports of one gateway. `conversations`, `receipts`, `turns` and `recordings` are
    about the same store."""

    conversations: Commands[Conversation]
    receipts: Receipts
    turns: Turns
    keys: Keys
    answers: Answers
    streams: Streams
    models: Models
    admission: Admission
    health: Health
    completions: CompletionList
    recordings: Recordings
    logs: Mapping[str, EventLog]
    """By context."""
    histories: Histories
    changes: Changes
    usage: UsageSums
    fleet: FleetView = field(default_factory=FleetView)
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    meter: Meter = UNMEASURED
    now: Callable[[], datetime] = utc_now
    new_id: Callable[[], UUID] = fresh_id
