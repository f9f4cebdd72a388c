"""A role of no use: says that it lives, in `$THALWEG_HOME/ran/ROLE.PID`, until it is told to stop.

A test can ask for its end with a file `$THALWEG_HOME/ran/ROLE.fail`.
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from infra.servers import lifeline

role = sys.argv[1]
go = lifeline.watch(int(sys.argv[sys.argv.index("--lifeline") + 1]))
ran = Path(os.environ["THALWEG_HOME"]) / "ran"
ran.mkdir(exist_ok=True)
go.warm()
go.wait()
(ran / f"{role}.{os.getpid()}").write_text(os.environ.get("THALWEG_REDIS", ""))
sys.stdout.write(f"{role} lives\n")
sys.stdout.flush()
go.works()


def end(number: int, frame: FrameType | None) -> None:
    sys.stdout.write('{"level": "info", "message": "told to stop"}\n')
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
if role == "prepare":
    sys.exit(3 if (ran / "prepare.fail").exists() else 0)
while not (ran / f"{role}.fail").exists():
    time.sleep(0.02)
sys.exit("a made-up problem")
