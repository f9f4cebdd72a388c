"""Why an event could not be applied, in words that hold nothing of what the event says."""

import psycopg

PROBLEM_CHARACTERS_MAX = 500
"""A damaged record may have a name of megabytes."""
DATA_EXCEPTIONS = "22"
"""The class of SQLSTATE whose primary messages repeat the value that was refused."""


def reason_of(error: Exception) -> str:
    """Fit for logs and dead letters: DETAIL and CONTEXT of Postgres hold rows, and are left out."""
    kind = type(error).__name__
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return kind
    primary = error.diag.message_primary
    if primary is None or error.sqlstate.startswith(DATA_EXCEPTIONS):
        return f"{kind} ({error.sqlstate})"
    return f"{kind} ({error.sqlstate}): {primary}"


def problem_text(problem: str) -> str:
    """A problem as a column has it."""
    return problem.replace("\0", "")[:PROBLEM_CHARACTERS_MAX]
