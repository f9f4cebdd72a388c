"""`dataclasses.replace` for states that change with each record: some four times as fast.

It copies the fields as they are, without `__init__`, so it is for classes without slots and
without `__post_init__`. To a type checker it is `replace`: names and types of fields are checked.
"""

from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["changed"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import replace as changed
else:

    def changed(state: T, /, **changes: Any) -> T:
        """A copy with these fields changed."""
        copy = object.__new__(type(state))
        fields = copy.__dict__
        fields.update(state.__dict__)
        fields.update(changes)
        return copy
