"""Judges what clients saw against what is stored, after a fault."""

import re

from commands.conversations import CONVERSATIONS
from commands.store import EventStore
from events.answers import entries_of_ended
from events.conversations import AnswerRequested, MessagePosted
from tests.faults.clients import Turn


async def judge(store: EventStore, turns: list[Turn]) -> list[str]:
    """Every way in which a promise was broken, in words; an empty list if none was."""
    found: list[str] = []
    for turn in turns:
        found += [f"{turn.answer}: {what}" for what in shown(turn)]
        recorded = await store.load(turn.conversation)
        if [one.position for one in recorded] != list(range(1, len(recorded) + 1)):
            found.append(f"{turn.conversation}: positions are not dense")
        events = [one.event for one in recorded]
        posted = [e for e in events if isinstance(e, MessagePosted) and e.content == turn.message]
        asked = [e for e in events if isinstance(e, AnswerRequested) and e.answer == turn.answer]
        if (len(posted), len(asked)) != (1, 1):
            found.append(f"{turn.answer}: posted {len(posted)} times, asked {len(asked)} times")
        answer = CONVERSATIONS.replay(recorded).answers.get(turn.answer) if turn.answer else None
        if answer is None or answer.ended is None:
            found.append(f"{turn.answer}: no end is stored")
        elif [(e.index, e.text) for e in entries_of_ended(answer.ended)] != turn.seen:
            found.append(f"{turn.answer}: stored {answer.ended.text!r}, shown {turn.text!r}")
    return found


def shown(turn: Turn) -> list[str]:
    """What is wrong with what one client saw: gap, repeat, splice, missing end."""
    found = []
    if turn.end is None:
        found.append("no end was shown")
    elif turn.end["kind"] != "finish":
        found.append(f"ended with {turn.end}")
    indexes = [index for index, _ in turn.seen]
    if indexes != list(range(len(indexes))):
        found.append(f"indexes shown: {indexes}")
    numbers = [int(number) for number in re.findall(r"\d+", turn.text)]
    if numbers != list(range(len(numbers))):
        found.append(f"numbers shown: {numbers}")
    wanted = re.search(r"tokens=(\d+)", turn.message)
    if turn.end is not None and wanted and len(numbers) != int(wanted[1]):
        found.append(f"{len(numbers)} tokens shown, {wanted[1]} asked for")
    return found
