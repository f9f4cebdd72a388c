"""Whether a role's process lives: its event loop touches a file, and a health check looks at it.

A container's runtime has no other way to see that a role hangs which serves nothing over HTTP:
`python -m infra.alive` is that health check, `thalweg run` does the touching.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

TOUCH_SECONDS = 2.0
"""Between touches: seldom enough to cost nothing."""
SILENT_SECONDS_MAX = 15.0
"""A loop that has not come round for so long hangs; a garbage collection takes less than one."""
VARIABLE = "THALWEG_ALIVE_FILE"


async def keep_touching(path: Path) -> None:
    """Touches the file until cancelled. A disk that is full ends nothing: the check will tell."""
    while True:
        with contextlib.suppress(OSError):
            _touch(path)
        await asyncio.sleep(TOUCH_SECONDS)


def _touch(path: Path) -> None:
    path.touch()


def silent_seconds(path: Path) -> float:
    """Since the last touch; infinite if there was none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return float("inf")


def main() -> int:
    """The exit status: 0 if the role lives."""
    named = os.environ.get(VARIABLE)
    if not named:
        sys.stderr.write(f"{VARIABLE} is not set: the role was not asked to touch a file.\n")
        return 1
    silent = silent_seconds(Path(named))
    if silent > SILENT_SECONDS_MAX:
        sys.stderr.write(f"{named} was not touched for {silent:.0f} s: the role hangs or ended.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
