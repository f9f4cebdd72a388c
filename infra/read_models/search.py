"""Full-text search over `histories@1`: Postgres finds and ranks, and marks what it has found."""

from typing import Any
from uuid import UUID

from psycopg.rows import TupleRow

from gateway.read_ports import Found, FoundPlace
from projections.conversations import search_scope
from projections.exact_text import ESCAPE, exact, storable

CANDIDATES_MAX = 10_000
"""Matches that are ranked, some 50 ms. A query that finds more says little: some are left out."""
EXCERPT_CHARACTERS_MAX = 50_000
"""From the beginning of a text, as many as are searched."""

SHORT_CHARACTERS_MAX = 300
"""A text of this length is shown whole."""

START, STOP = f"{ESCAPE}2", f"{ESCAPE}3"
"""Around what was found: see projections/exact_text."""
MARKS = f'StartSel="{START}", StopSel="{STOP}"'
WHOLE = f"{MARKS}, HighlightAll=true"
EXCERPT = f'{MARKS}, MaxFragments=2, MinWords=8, MaxWords=24, FragmentDelimiter=" … "'

# The query stands in it as a value, not as a row, so that the planner can look at its words.
SEARCH = """
WITH matching AS MATERIALIZED (
    SELECT conversation, position, created_at,
           ts_rank(words, websearch_to_tsquery('simple', %(query)s), 1)::float8 AS rank
    FROM {main_nodes}
    WHERE words @@ (websearch_to_tsquery('simple', %(query)s) && %(scope)s::tsquery)
      AND numnode(websearch_to_tsquery('simple', %(query)s)) > 0
      AND text IS NOT NULL
    LIMIT %(candidates)s
), best AS (
    SELECT rank, matching.created_at, conversation, matching.position, title, opening, archived
    FROM matching JOIN {main} AS known USING (conversation)
    WHERE known.tenant = %(tenant)s AND known.subject = %(subject)s AND NOT known.deleted
      AND (%(rank)s::float8 IS NULL
           OR (rank, matching.created_at, conversation, matching.position)
              < (%(rank)s, %(at)s::timestamptz, %(below)s::uuid, %(position)s::bigint))
    ORDER BY rank DESC, matching.created_at DESC, conversation DESC, matching.position DESC
    LIMIT %(limit)s
)
SELECT rank, best.created_at, conversation, position, node, role, title, opening, archived,
       ts_headline('simple', left(text, %(characters)s),
                   websearch_to_tsquery('simple', %(query)s),
                   CASE WHEN length(text) <= %(short)s THEN %(whole)s ELSE %(excerpt)s END)
FROM best JOIN {main_nodes} USING (conversation, position)
ORDER BY rank DESC, best.created_at DESC, conversation DESC, position DESC
"""


def values(
    tenant: UUID, subject: str, query: str, *, below: FoundPlace | None, limit: int
) -> dict[str, Any]:
    """For SEARCH."""
    return {
        "query": storable(query),
        "scope": f"'{search_scope(tenant, subject)}'",  # quoted: no operator, whatever it holds
        "candidates": CANDIDATES_MAX,
        "tenant": tenant,
        "subject": storable(subject),
        "rank": below and below.rank,
        "at": below and below.created_at,
        "below": below and below.conversation,
        "position": below and below.position,
        "limit": limit,
        "characters": EXCERPT_CHARACTERS_MAX,
        "short": SHORT_CHARACTERS_MAX,
        "whole": WHOLE,
        "excerpt": EXCERPT,
    }


def found(row: TupleRow) -> Found:
    """In the order of SEARCH."""
    rank, created_at, conversation, position, node, role, title, opening, archived, marked = row
    excerpt, marks = unmarked(marked)
    return Found(
        place=FoundPlace(rank, created_at, conversation, position),
        node=node,
        role=role,
        title=None if title is None else exact(title),
        opening=None if opening is None else exact(opening),
        archived=archived,
        excerpt=excerpt,
        marks=marks,
    )


def unmarked(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and where they were."""
    before, *parts = marked.split(START)
    excerpt = exact(before)
    marks = []
    for part in parts:
        inside, _, behind = part.partition(STOP)
        start = len(excerpt)
        excerpt += exact(inside)
        marks.append((start, len(excerpt)))
        excerpt += exact(behind)
    return excerpt, marks
