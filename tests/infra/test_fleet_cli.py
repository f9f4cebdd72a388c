"""What `thalweg fleet` draws."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from gateway.fleet.table import OPERATOR, table_of
from infra.cli.fleet import NOBODY, bar, drawn
from tests.gateway.test_fleet import ENGINE, FLOOD, report, waiting


def test_a_fleet_is_drawn_with_engines_queues_and_workers() -> None:
    out = replace(ENGINE, name="http://[::1]:8080", breaker="open", out_seconds=7.0)
    console = Console(width=140, record=True, file=StringIO())
    console.print(
        drawn(table_of([(0.4, report(waiting(1_000), worker="w[red]", engine=out))], OPERATOR))
    )
    text = console.export_text()
    for part in (
        "http://[::1]:8080",
        "open 7 s",
        "32/32",
        "1,000",
        str(FLOOD),
        "0.4 s ago",
        "10.0",
        "w[red]",
    ):
        assert part in text


def test_without_a_worker_it_says_what_that_may_mean() -> None:
    assert drawn(table_of([], OPERATOR)) == NOBODY


@pytest.mark.parametrize(("load", "full"), [(0.0, 0), (0.5, 5), (1.0, 10), (3.0, 10)])
def test_a_bar_is_never_longer_than_its_place(load: float, full: int) -> None:
    assert (bar(load).count("█"), len(bar(load))) == (full, 10)
