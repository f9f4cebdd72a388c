"""A response was delivered when its client shows that it has read it, not when it was written."""

import asyncio

import pytest

from gateway.delivery import Delivery

STAY_SECONDS = 600.0
"""Nobody stays that long here."""
LONG_AGO = STAY_SECONDS + 1.0


class Connection:
    """A client, and what was taken to be delivered to it."""

    def __init__(self, *, takes: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.delivery = Delivery(self.loop, lambda: takes, STAY_SECONDS)
        self.delivered: list[str] = []

    def writes(self, response: str, *, seen_for: float = 0.0) -> None:
        """The client asks, and gets a response in full, the first of which it saw a while ago."""
        sent = self.delivery.asked()
        sent(lambda: self.delivered.append(response), started_at=self.loop.time() - seen_for)


async def test_what_was_written_to_a_client_that_is_lost_then_was_not_delivered() -> None:
    client = Connection()
    client.writes("one")
    assert client.delivered == []
    client.delivery.lost()
    assert client.delivered == []


async def test_who_asks_for_more_has_read_what_came_before_and_only_that() -> None:
    client = Connection()
    client.writes("one")
    client.writes("two")
    assert client.delivered == ["one"]
    client.delivery.lost()
    assert client.delivered == ["one"]


@pytest.mark.parametrize(
    ("takes", "seen_for", "delivered"),
    [(True, LONG_AGO, ["one"]), (True, 0.0, []), (False, LONG_AGO, [])],
)
async def test_who_leaves_has_read_it_if_it_had_the_time_and_took_every_byte(
    takes: bool, seen_for: float, delivered: list[str]
) -> None:
    client = Connection(takes=takes)
    client.writes("one", seen_for=seen_for)
    client.delivery.left()
    assert client.delivered == delivered
