"""How rows become the parameters of statements."""

from pathlib import Path

import projections
from projections.columns import PIECE_CHARACTERS_MAX, columns, pieces

SOURCES = sorted(Path(projections.__file__).parent.glob("*.py"))


def test_rows_become_columns() -> None:
    assert columns([(1, "a"), (2, "b")]) == [[1, 2], ["a", "b"]]


def test_pieces_are_bounded_and_lose_nothing() -> None:
    half = PIECE_CHARACTERS_MAX // 2
    sizes = [1, half, half, 2 * PIECE_CHARACTERS_MAX, 0, 3]
    assert list(pieces(sizes, lambda size: size)) == [[1, half, half], sizes[3:4], [0, 3]]
    assert list(pieces([], lambda size: size)) == []


def test_no_statement_of_a_projection_waits_for_its_client_in_the_middle() -> None:
    """What is stopped there would keep its locks: see projections/columns.py."""
    assert SOURCES
    for source in SOURCES:
        text = source.read_text()
        assert ".copy(" not in text, source
        assert "executemany(" not in text, source
