"""Why a reading of the log is refused, or ends."""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from gateway.errors import Declined


@dataclass(unsafe_hash=True)
class OtherTenant(Declined):
    """Asked for by name, another tenant's log is refused, whether there is one or not."""

    STATUS: ClassVar[int] = 403
    CODE: ClassVar[str] = "other_tenant"
    tenant: UUID

    def __str__(self) -> str:
        return f"this API key does not read the log of tenant {self.tenant}; use one of its keys"

    @property
    def parameter(self) -> str | None:
        return "tenant"


@dataclass(unsafe_hash=True)
class TooManyReaders(Declined):
    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "too_many_readers"
    readers_max: int
    of: str
    """"tenant" or "gateway"."""

    def __str__(self) -> str:
        whose = "of this tenant " if self.of == "tenant" else ""
        return (
            f"{self.readers_max} readings of the log {whose}are open at this gateway, which is all "
            "it takes; try it again in a moment, or at another gateway"
        )


@dataclass(unsafe_hash=True)
class EventUnreadable(Declined):
    STATUS: ClassVar[int] = 500
    CODE: ClassVar[str] = "event_unreadable"
    place: int

    def __str__(self) -> str:
        return (
            f"the event at place {self.place} of the log can't be read: it is damaged, or was "
            "written by a newer version of the program; what stands behind it can be read from "
            f"{self.place + 1} on"
        )
