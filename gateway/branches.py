"""The tree of a conversation: the branch that is shown, and what could be shown instead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from gateway.read_ports import NodePlace

SIBLINGS_MAX = 50
"""Those around a node that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """A child of the same parent, and the head of the newest branch through it."""

    node: UUID
    head: UUID


@dataclass(frozen=True, slots=True)
class Siblings:
    """A node among the children of its parent, in the order of their making."""

    number: int
    """Its own, from 1."""
    count: int
    around: Sequence[Sibling]


class Tree:
    """All nodes of a conversation, by position. A parent stands before its children."""

    def __init__(self, places: Sequence[NodePlace]) -> None:
        self.places: Mapping[UUID, NodePlace] = {one.node: one for one in places}
        self._children: dict[UUID | None, list[NodePlace]] = {}
        self._newest: dict[UUID, NodePlace] = {}
        for one in places:
            self._children.setdefault(one.parent, []).append(one)
        for one in reversed(places):  # children first
            self._newest.setdefault(one.node, one)
            if one.parent is not None:
                known = self._newest.get(one.parent)
                found = self._newest[one.node]
                if known is None or known.position < found.position:
                    self._newest[one.parent] = found

    def branch(self, head: UUID | None) -> list[NodePlace]:
        """From `head` back to the first message. Empty if there is no such node."""
        found = []
        while head is not None and (place := self.places.get(head)) is not None:
            found.append(place)
            head = place.parent
        return found

    def siblings(self, node: UUID) -> Siblings:
        """Of a node of this tree."""
        children = self._children[self.places[node].parent]
        at = next(index for index, one in enumerate(children) if one.node == node)
        first = max(0, min(at - SIBLINGS_MAX // 2, len(children) - SIBLINGS_MAX))
        around = [
            Sibling(one.node, self._newest[one.node].node)
            for one in children[first : first + SIBLINGS_MAX]
        ]
        return Siblings(at + 1, len(children), around)


def page_of(
    branch: Sequence[NodePlace], *, limit: int, bytes_max: int
) -> tuple[Sequence[NodePlace], bool]:
    """The first nodes of what is left of a branch that make a page, and whether more are left."""
    taken = 0
    size = 0
    for one in branch[:limit]:
        size += one.text_bytes
        if taken and size > bytes_max:
            break
        taken += 1
    return branch[:taken], taken < len(branch)
