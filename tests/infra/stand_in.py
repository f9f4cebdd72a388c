"""A role of no use: says that it lives, in `$THALWEG_HOME/ran/ROLE.PID`, until it is told to stop.

A test can ask for its end with a file `$THALWEG_HOME/ran/ROLE.fail`, and keep the fork server from
importing it, or have it begin a thread then, with `imports.fail` and `imports.thread`. It writes
the address of Redis, how and as what it was started, and an id of each kind that a process makes.
"""

import argparse
import json
import os
import random
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from events.ids import fresh_id
from infra.servers import lifeline


def ran() -> Path:
    folder = Path(os.environ["THALWEG_HOME"]) / "ran"
    folder.mkdir(exist_ok=True)
    return folder


def import_roles() -> None:
    if (ran() / "imports.fail").exists():
        sys.exit("a made-up problem of imports")
    if (ran() / "imports.thread").exists():
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    random.random(), fresh_id()  # so that generators have a state that forks could share


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("role")
    parser.add_argument("--lifeline", type=int)
    parser.add_argument("--listener", type=int)
    parser.add_argument("--metrics", type=int)
    given = parser.parse_args(arguments)
    go = lifeline.watch(given.lifeline)
    go.wait()
    draft = ran() / f"draft.{os.getpid()}"
    draft.write_text(json.dumps(_about(given.role)))
    draft.rename(ran() / f"{given.role}.{os.getpid()}")
    signal.signal(signal.SIGTERM, _end)  # before anybody knows of it, who might stop it
    sys.stdout.write(f"{given.role} lives\n")
    sys.stdout.flush()
    go.works()
    if given.role == "prepare":
        return 3 if (ran() / "prepare.fail").exists() else 0
    while not (ran() / f"{given.role}.fail").exists():
        time.sleep(0.02)
    sys.exit("a made-up problem")


def _about(role: str) -> dict[str, object]:
    folder = "/proc/self/fd"
    signals = Path("/proc/self/status").read_text()
    return {
        "redis": os.environ.get("THALWEG_REDIS", ""),
        "forked": Path(str(sys.modules["__main__"].__file__)).stem == "fork_server",
        "parent": os.getppid(),
        "session": os.getsid(0),
        "descriptors": [
            os.readlink(f"{folder}/{fd}").partition("[")[0]
            for fd in sorted(os.listdir(folder), key=int)
            if Path(f"{folder}/{fd}").exists()
        ],
        "signals": [line for line in signals.splitlines() if line[:4] in ("SigB", "SigI", "SigC")],
        "ids": [str(fresh_id()), str(random.random()), secrets.token_hex(8)],
    }


def _end(number: int, frame: FrameType | None) -> None:
    sys.stdout.write('{"level": "info", "message": "told to stop"}\n')
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
