"""Failpoints: off by default, one plan a life, and never where users are."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import failpoints
from infra.failpoints import BadPlan, FailpointRaised, hit, parse
from infra.settings import Settings, SettingsRefused
from tests.fixtures.processes import ROOT, wait_for

READ, STORED = "relay.after_read", "relay.after_position"


@pytest.fixture(autouse=True)
def _off_again(tmp_path: Path) -> Iterator[None]:
    yield
    failpoints.begin("", tmp_path, [])
    failpoints.follow((), tmp_path, [])


def test_nothing_happens_as_long_as_nobody_has_asked_for_it(tmp_path: Path) -> None:
    failpoints.begin("", tmp_path, ["relay"])
    hit(READ)
    hit("a name that nobody knows: the house test looks for those")
    assert not failpoints.are_on()
    assert list(tmp_path.iterdir()) == []


def test_a_plan_strikes_at_its_own_hit_of_its_own_failpoint(tmp_path: Path) -> None:
    failpoints.begin(f"{READ}:2=raise", tmp_path, ["relay"])
    hit(READ)
    hit(STORED)
    with pytest.raises(FailpointRaised):
        hit(READ)
    hit(READ)
    assert _hits(tmp_path) == [f"{READ} 2 raise"]


def test_a_star_tells_of_every_failpoint_once(tmp_path: Path) -> None:
    failpoints.begin("*=tell", tmp_path, ["relay"])
    for name in (READ, STORED, READ):
        hit(name)
    assert _hits(tmp_path) == [f"{READ} 1 tell", f"{STORED} 1 tell"]


def test_a_delay_is_of_the_seconds_that_were_asked_for() -> None:
    (entry,) = parse("relay.after_read=delay:0.25")
    assert (entry.hit, entry.action, entry.seconds) == (1, "delay", 0.25)


@pytest.mark.parametrize(("action", "status"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_a_process_kills_or_stops_itself_after_it_has_said_so(
    tmp_path: Path, action: str, status: signal.Signals
) -> None:
    program = (
        "import sys; from pathlib import Path; from infra import failpoints\n"
        f"failpoints.begin('{READ}:3={action}', Path(sys.argv[1]), ['relay'])\n"
        f"for _ in range(3): print('before', flush=True); failpoints.hit('{READ}')\n"
        "print('after', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        if action == "stop":
            wait_for(lambda: _is_stopped(process.pid), "the process to stop itself")
            process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    after = ["after"] if action == "stop" else []
    assert said.split() == ["before", "before", "before", *after]
    assert process.returncode == (0 if action == "stop" else -status)
    assert _hits(tmp_path) == [f"{READ} 3 {action}"]


def test_a_plan_in_the_home_folder_is_taken_by_one_life_of_its_role(tmp_path: Path) -> None:
    folder = failpoints.folder_of(tmp_path)
    folder.mkdir()
    (folder / "relay").write_text(f"{READ}=raise\n")
    (folder / "recorder").write_text("recorder.after_read=raise")
    failpoints.begin("file", tmp_path, ["relay"])
    with pytest.raises(FailpointRaised):
        hit(READ)
    assert [path.name for path in folder.iterdir() if path.name != "hits"] == ["recorder"]
    failpoints.begin("file", tmp_path, ["relay"])
    hit("recorder.after_read")


def test_a_plan_that_comes_later_counts_anew(tmp_path: Path) -> None:
    failpoints.begin("file", tmp_path, ["relay"])
    assert failpoints.are_on()
    hit(READ)
    failpoints.folder_of(tmp_path).mkdir()
    (failpoints.folder_of(tmp_path) / "relay").write_text(f"{READ}:2=raise")
    failpoints.take_from_file(tmp_path, ["relay"])
    hit(READ)
    with pytest.raises(FailpointRaised):
        hit(READ)


@pytest.mark.parametrize(
    "plan",
    [
        "relay.after_read",
        "relay.after_reading=kill",
        "relay.after_read=explode",
        "relay.after_read:0=kill",
        "relay.after_read=delay",
        "relay.after_read=kill:3",
        "relay.after_read=delay:61",
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused_when_the_process_starts(
    plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadPlan):
        parse(plan)
    monkeypatch.setenv("THALWEG_FAILPOINTS", plan)
    with pytest.raises(SettingsRefused):
        Settings.load()


def test_where_users_are_failpoints_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_FAILPOINTS", "file")
    assert Settings.load().failpoints == "file"
    monkeypatch.setenv("THALWEG_KAFKA", "kafka:9092")
    with pytest.raises(SettingsRefused, match="THALWEG_SINGLE_MACHINE"):
        Settings.load()


def _is_stopped(pid: int) -> bool:
    return " T " in Path(f"/proc/{pid}/stat").read_text()


def _hits(home: Path) -> list[str]:
    """What was done, without who did it."""
    lines = (failpoints.folder_of(home) / "hits").read_text().splitlines()
    return [line.split(" ", 2)[2] for line in lines]
