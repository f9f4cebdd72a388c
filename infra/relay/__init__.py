"""The relay: sends what was committed to the event store to Kafka, in commit order."""

from infra.relay.alarm import stopped_alone
from infra.relay.lease import StoreWasRestored
from infra.relay.relay import Relay

__all__ = ["Relay", "StoreWasRestored", "stopped_alone"]
