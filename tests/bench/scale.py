"""How much of everything a run does: the whole, or just enough to see that it still runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Counts of one run."""

    pairs: int = 150
    """Requests straight and through Thalweg, in turns."""
    requests: int = 2_000
    cost_requests: int = 1_000
    traced: int = 150
    kills: int = 3
    behind: int = 2_000
    """Finished answers behind an unfinished one when its worker is killed."""
    behind_kills: int = 2
    gateway_kills: int = 3
    streams: int = 2_000
    active: int = 200
    active_seconds: float = 10.0
    commands: int = 12_000
    sends: int = 5
    feeds: int = 1_000
    feed_changes: int = 100
    probes: int = 120
    messages: int = 100_000
    searches: int = 200
    decisions: int = 50_000
    dispatched: int = 2_000
    flex_waiting: int = 1_000
    flex_places: int = 36
    """Of the engine that they wait for."""
    urgent: int = 40
    at_a_fault: int = 16
    """Answers that are being given when an engine goes wrong."""
    cancels: int = 200
    peer_pairs: int = 100
    peer_seconds: float = 6.0
    peer_sends: int = 4


WHOLE = Scale()
SMALL = Scale(
    pairs=3,
    requests=40,
    cost_requests=40,
    traced=6,
    kills=0,
    behind=20,
    behind_kills=0,
    gateway_kills=0,
    streams=8,
    active=4,
    active_seconds=0.3,
    commands=200,
    sends=1,
    feeds=5,
    feed_changes=2,
    probes=3,
    messages=200,
    searches=5,
    decisions=2_000,
    dispatched=100,
    flex_waiting=20,
    flex_places=4,
    urgent=3,
    at_a_fault=8,
    cancels=2,
    peer_pairs=2,
    peer_seconds=0.5,
    peer_sends=1,
)
