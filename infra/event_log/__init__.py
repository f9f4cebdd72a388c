"""The logs of the event stores, for auditors: on Postgres, and in memory for tests."""

from infra.event_log.memory import MemoryLog
from infra.event_log.postgres import PostgresLog

__all__ = ["MemoryLog", "PostgresLog"]
