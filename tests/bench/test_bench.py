"""The bench still runs: every part that kills nothing, with tiny counts."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import document
from tests.bench.main import bench, chosen_parts
from tests.bench.measure import Spread
from tests.bench.parts import PARTS, PICTURE
from tests.bench.peers import report
from tests.bench.peers.measure import Found, Kept, Shown
from tests.bench.peers.part import PEERS
from tests.bench.picture import picture
from tests.bench.rows import at_least, at_most, markdown
from tests.bench.scale import SMALL
from tests.bench.stages import CLIENT, STAGES, Staged, durations, middle
from tests.fixtures.collector import Collector, Seen

FAST = (
    "first-token",
    "rate",
    "cpu",
    "commands",
    "streams",
    "feeds",
    "lag",
    "repeats",
    "dispatch",
    "urgent",
    "stages",
)
MS = 1_000_000


def test_every_part_that_kills_nothing_still_runs(tmp_path: Path) -> None:
    with Collector() as collector:
        parts = chosen_parts(FAST, peers=False)
        rows, made = bench(tmp_path, Console(quiet=True), SMALL, parts, collector=collector)
    assert [part.name for part in parts] == list(FAST)
    aimed = [row for row in rows if row.reached is not None]
    assert len(aimed) >= len(FAST)
    assert ET.fromstring(made.pictures[PICTURE]).tag.endswith("svg")


def test_a_plain_run_has_every_part_but_the_peers() -> None:
    assert chosen_parts([], peers=False) == list(PARTS)
    assert chosen_parts([], peers=True)[-1] is PEERS
    assert [part.name for part in chosen_parts(["rate"], peers=False)] == ["rate"]


def test_the_document_is_filled_between_its_markers_and_nowhere_else() -> None:
    page = "a\n<!-- one -->\nold\n<!-- end of one -->\nb\n"
    new = document.filled(page, {"one": "new \\1"})
    assert new == "a\n<!-- one -->\nnew \\1\n<!-- end of one -->\nb\n"
    with pytest.raises(KeyError):
        document.filled(page, {"other": "new"})


def test_the_page_has_a_place_for_everything_that_a_run_writes() -> None:
    page = document.PAGE.read_text()
    document.filled(page, {"figures": "", "stages": "", "peers": ""})
    assert f"({PICTURE})" in page


def spans(moments_ms: list[int]) -> dict[str, Seen]:
    """Spans whose moments, in the order of STAGES, are these."""

    def span(name: str, began: int, ended: int) -> Seen:
        return Seen("t", name, "", name, "test", began * MS, ended * MS, ())

    posted, checked, committed, sent, received, loaded, spoken, chunk, back, live, frame = (
        moments_ms
    )
    return {
        "request": span("request", posted, frame),
        "commit command": span("commit command", checked, committed),
        "send": span("send", sent, received),
        "receive request": span("receive request", received, received),
        "load transcript": span("load transcript", received, loaded),
        "claim answer": span("claim answer", loaded, spoken - 1),
        "first token": span("first token", loaded, spoken),
        "first text": span("first text", chunk, live),
        "read back": span("read back", chunk, back),
        "write live stream": span("write live stream", back, live),
        "first frame": span("first frame", committed, frame),
    }


def test_stages_are_the_times_between_moments_and_sum_to_what_the_client_waited() -> None:
    found = durations(spans([1, 2, 4, 5, 8, 10, 30, 31, 34, 36, 37]), 0, 40 * MS)
    assert [round(seconds * 1e3) for seconds in found] == [1, 1, 2, 1, 3, 2, 20, 1, 3, 2, 1, 3]


def test_what_a_later_moment_overtakes_takes_no_time_of_its_own() -> None:
    """The frame is out at 35 ms, before the recorder has heard from Redis at 39."""
    found = durations(spans([1, 2, 4, 5, 8, 10, 30, 31, 34, 39, 35]), 0, 36 * MS)
    assert round(sum(found) * 1e3) == 36
    assert [round(seconds * 1e3) for seconds in found[-3:]] == [1, 0, 1]


def test_the_middle_is_the_fifth_around_the_median() -> None:
    assert [one[0] for one in middle([[float(n)] for n in reversed(range(10))])] == [4.0, 5.0]
    assert middle([[1.0]]) == [[1.0]]


def test_stages_that_do_not_sum_to_the_client_are_told_from_those_that_do() -> None:
    assert Staged([("gateway", CLIENT, 0.040)], 0.0415, 1).agree
    assert not Staged([("gateway", CLIENT, 0.040)], 0.0450, 1).agree


def test_the_picture_names_every_stage_and_is_well_formed() -> None:
    named = [(stage.name, stage.what, 0.002) for stage in STAGES]
    drawn = picture(Staged([*named, ("gateway", CLIENT, 0.001)], 0.025, 9), "a day & a machine")
    texts = "".join(ET.fromstring(drawn).itertext())
    assert all(stage.what in texts for stage in STAGES)
    assert "a day & a machine" in texts


def test_an_aim_says_whether_it_was_reached() -> None:
    assert at_most("time", 0.004, 0.005).reached
    assert not at_most("time", 0.006, 0.005).reached
    assert not at_least("rate", 99, 100, "events/s").reached
    assert "**missed**" in markdown([at_least("rate", 99, 100, "events/s")])


def test_the_comparison_gives_the_ratio_to_thalweg_and_says_who_keeps_nothing() -> None:
    own = Found(
        "Thalweg",
        Spread(0.02, 0.02, 0.02),
        Spread(0.03, 0.04, 0.05),
        200.0,
        400.0,
        Kept(100, 0),
        Shown(240, 0, 2.0),
        1.0,
    )
    other = Found(
        "Other",
        Spread(0.02, 0.02, 0.02),
        Spread(0.025, 0.05, 0.06),
        100.0,
        100.0,
        None,
        Shown(240, 240, 2.0),
        2.0,
    )
    lines = dict(report.lines([own, other]))
    assert lines["added to the first token, p50"] == ["10.0 ms", "5.0 ms (0.50x)"]
    assert lines["32 at a time, streamed"] == ["200/s", "100/s (0.50x)"]
    assert lines["finished answers lost by a kill -9"] == ["0 of 100 (0%)", "keeps none"]
    assert lines["shown tokens lost by a kill -9 in mid-answer"][1] == "240 of 240 (100%)"
