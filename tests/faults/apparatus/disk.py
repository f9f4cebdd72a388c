"""A small disk of its own for an installation's data, which can be filled and freed.

A tmpfs is mounted where the data will be: that needs root and CAP_SYS_ADMIN. Without root there is
no such disk and the test is skipped; as root a mount that is refused is a failure.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

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
