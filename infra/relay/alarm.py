"""A relay that stops for a person says so again and again; those of other contexts go on."""

import asyncio
import logging
from collections.abc import Awaitable

from events.codec import Undecodable
from infra.relay.lease import StoreWasRestored

log = logging.getLogger("thalweg.relay")

ALARM_SECONDS = 60.0
"""Between alarms: one line a minute is found in any log, and fills none."""


async def stopped_alone(context: str, relaying: Awaitable[None]) -> None:
    """Awaits one context's relay. If it stops for a person, this raises alarms until cancelled.

    All else that it raises is raised: then a fresh process may do better.
    """
    try:
        await relaying
        return
    except StoreWasRestored as error:
        reason = str(error)
    except Undecodable as error:  # with a cause, its words may be those of a conversation
        what = "an event has wrong fields or is damaged" if error.__cause__ else str(error)
        reason = f"{what}. Run the version of the program that stored it, or mend its row"
    while True:
        log.critical(
            "the relay of a context has stopped: its events reach nobody, its commands are still"
            " stored. Do what the reason says, then start the role `relay` again",
            extra={"context": context, "reason": reason},
        )
        await asyncio.sleep(ALARM_SECONDS)
