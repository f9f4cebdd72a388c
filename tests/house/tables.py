"""Generated tables in pages: each between a line that begins it and one that ends it."""

import re
from collections.abc import Mapping


def with_tables(text: str, tables: Mapping[str, str], page: str) -> str:
    """The page's text with these tables, by the names in their marks."""
    for name, table in tables.items():
        pattern = rf"(<!-- {name}: begin[^\n]*-->\n).*?(<!-- {name}: end -->)"
        text, found = re.subn(
            pattern, lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL
        )
        assert found == 1, f"{page} has no place for the table of {name}"
    return text
