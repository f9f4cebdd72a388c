"""The list of stored completions in memory: of the events of a store in memory, without a lag."""

from collections.abc import Sequence
from uuid import UUID

from commands.conversations import CONVERSATIONS
from events.conversations import EndKind, Kind
from events.envelope import Recorded
from gateway.openai.ports import CompletionsWanted, Listed, Place
from infra.event_store.memory import MemoryStore

EVENTS_MAX = 1_000_000


class MemoryCompletions:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def find(self, wanted: CompletionsWanted) -> Sequence[Listed]:
        """See gateway.openai.ports.CompletionList."""
        places = {}
        for stream, recorded in self._streams().items():
            if recorded[0].meta.tenant == wanted.tenant:
                places[stream] = Place(recorded[0].meta.time, stream)
        kept = [one for one in places if self._is_wanted(one, wanted)]
        if wanted.after is not None:
            last, older = wanted.after, wanted.newest_first
            kept = [one for one in kept if (places[one] < last if older else places[one] > last)]
        kept.sort(key=lambda one: places[one], reverse=wanted.newest_first)
        return [self._listed(places[one]) for one in kept[: wanted.limit]]

    def _streams(self) -> dict[UUID, list[Recorded]]:
        found: dict[UUID, list[Recorded]] = {}
        for one in self._store.recorder.select_notifications(1, EVENTS_MAX):
            found.setdefault(UUID(str(one.originator_id)), []).append(
                self._store._mapper.decode(one)
            )
        return found

    def _is_wanted(self, stream: UUID, wanted: CompletionsWanted) -> bool:
        state = CONVERSATIONS.replay(self._streams()[stream])
        if state.kind is not Kind.COMPLETION or state.deleted or not state.stored:
            return False
        (asked,) = state.answers.values()
        ended = state.ends.get(asked.answer)
        return (
            ended is not None
            and ended.kind is not EndKind.FAIL
            and wanted.model in (None, asked.model)
            and wanted.metadata.items() <= state.metadata.items()
        )

    def _listed(self, place: Place) -> Listed:
        (answer,) = CONVERSATIONS.replay(self._streams()[place.conversation]).answers
        return Listed(place, answer)
