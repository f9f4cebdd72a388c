"""The health check of a role that serves nothing over HTTP."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra import alive
from tests.fixtures.processes import ROOT


def check(file: Path | None) -> subprocess.CompletedProcess[str]:
    named = {} if file is None else {alive.VARIABLE: str(file)}
    kept = {name: value for name, value in os.environ.items() if name != alive.VARIABLE}
    return subprocess.run(
        [sys.executable, "-m", "infra.alive"],
        cwd=ROOT,
        env={**kept, **named},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_a_role_that_runs_is_alive(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    touching = asyncio.create_task(alive.keep_touching(file))
    while not file.exists():  # noqa: ASYNC110 (a file has no event)
        await asyncio.sleep(0.001)
    touching.cancel()
    done = await asyncio.to_thread(check, file)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_role_that_hangs_is_not(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    file.touch()
    long_ago = time.time() - alive.SILENT_SECONDS_MAX - 1
    os.utime(file, (long_ago, long_ago))
    done = check(file)
    assert done.returncode == 1
    assert "hangs" in done.stderr


def test_a_role_that_never_began_is_not(tmp_path: Path) -> None:
    assert check(tmp_path / "alive").returncode == 1


def test_a_check_without_a_file_says_what_is_missing() -> None:
    done = check(None)
    assert done.returncode == 1
    assert alive.VARIABLE in done.stderr


@pytest.mark.parametrize("place", ["nowhere/alive", "."])
async def test_a_file_that_cannot_be_written_ends_no_role(tmp_path: Path, place: str) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await alive.keep_touching(tmp_path / place)
