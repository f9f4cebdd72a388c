"""A small disk of its own for an installation's data, which can be filled and freed.

A tmpfs is mounted where the data will be: that needs root and CAP_SYS_ADMIN. Without root there is
no such disk and the test is skipped; as root a mount that is refused is a failure.
"""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.apparatus.door import refusals
from tests.faults.case import Fault
from tests.faults.world import World

BLOCK_BYTES = 65_536


@dataclass(frozen=True)
class Disk:
    """Mounted at `path`; whoever writes below it shares its room."""

    path: Path

    @property
    def _filling(self) -> Path:
        return self.path / "filling"

    def fill(self) -> int:
        """Takes all the room there is; how many bytes that was."""
        with self._filling.open("ab", buffering=0) as file:
            try:
                while file.write(bytes(BLOCK_BYTES)):
                    pass
            except OSError:  # full
                pass
        return self._filling.stat().st_size

    def free(self) -> None:
        self._filling.unlink()


@contextmanager
def small_disk(path: Path, *, megabytes: int) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs; CI is root and runs this")
    path.mkdir(parents=True)
    size = f"size={megabytes}m,mode=0755"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "thalweg-test", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"root may not mount a tmpfs here: {done.stderr}"
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def filled(short: float, long: float) -> Fault:
    """The disk that the installation lives on, or one of its servers, is full for that long."""

    async def fault(world: World) -> None:
        disk = Disk(_mounted(world.thalweg.home))
        before = world.thalweg.pids("gateway")
        taken = await asyncio.to_thread(disk.fill)
        try:
            refused = await refusals(world, world.seconds(short, long))
        finally:
            disk.free()
        world.note(f"{taken} bytes were taken, {len(refused)} commands refused: {refused[:1]}")
        assert all(told.startswith(("503", "429")) for told in refused), refused
        assert world.thalweg.pids("gateway") == before, "the gateway did not live through it"

    return fault


def _mounted(home: Path) -> Path:
    """The folder of the installation that is a disk of its own."""
    return next(path for path in (home, home / "postgres", home / "kafka") if path.is_mount())
