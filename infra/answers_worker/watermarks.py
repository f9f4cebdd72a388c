"""Which offsets may be committed: never past the oldest message whose answer has not ended.

Messages of a partition are taken in order, so the finished ones are all that were taken and are not
unfinished; they need no room of their own.
"""

from dataclasses import dataclass, field

Partition = tuple[str, int]


@dataclass(slots=True)
class _Mark:
    first: int
    """Everything from here up to `next` was taken."""
    next: int
    unfinished: set[int] = field(default_factory=set)


class Watermarks:
    """Of the partitions of one worker. After a rebalance messages may be taken again."""

    def __init__(self) -> None:
        self._marks: dict[Partition, _Mark] = {}

    def take(self, partition: Partition, offset: int) -> bool:
        """A message has come. False: it was finished before, and is to be passed over."""
        mark = self._marks.get(partition)
        if mark is None:
            mark = self._marks[partition] = _Mark(offset, offset)
        if mark.first <= offset < mark.next:
            return offset in mark.unfinished
        if offset < mark.first:  # what lies between was not taken: begin anew from here
            mark.first = offset
        mark.next = offset + 1
        mark.unfinished.add(offset)
        return True

    def finish(self, partition: Partition, offset: int) -> None:
        """A message needs no further work."""
        mark = self._marks.get(partition)
        if mark is not None:
            mark.unfinished.discard(offset)

    def watermark(self, partition: Partition) -> int | None:
        """The offset to commit: of the oldest unfinished message, else of the next one to come."""
        mark = self._marks.get(partition)
        if mark is None:
            return None
        return min(mark.unfinished, default=mark.next)

    def partitions(self) -> list[Partition]:
        """Those of which something was taken."""
        return list(self._marks)

    def keep(self, partitions: set[Partition]) -> None:
        """Forgets all other partitions: they are somebody else's now."""
        self._marks = {each: mark for each, mark in self._marks.items() if each in partitions}
