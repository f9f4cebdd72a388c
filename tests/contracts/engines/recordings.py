"""The recorded exchanges with a real TGI router: `tests/contracts/tgi_recordings/README.md`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parents[1] / "tgi_recordings"
RECEIVED = re.compile(rb"<<<<<<<< received \[\d+\] \((\d+) bytes; end: ([^\n]*)\)\n")
SENT = re.compile(rb">>>>>>>> sent \[\d+\]\n")


@dataclass(frozen=True)
class Exchange:
    """One request and what came back, byte for byte."""

    method: str
    path: str
    body: Any
    """The request's JSON, None if it had none (that is whole)."""
    received: bytes
    end: str

    @property
    def closed_by_server(self) -> bool:
        return self.end.startswith("closed by the server")


def names() -> list[str]:
    """Every recording there is."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read(name: str) -> list[Exchange]:
    """The exchanges of one recording, in their order."""
    raw = (FOLDER / f"{name}.txt").read_bytes()
    found = []
    at = 0
    while sent := SENT.search(raw, at):
        received = RECEIVED.search(raw, sent.end())
        assert received is not None, name
        head, _, body = raw[sent.end() : received.start()].partition(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
        at = received.end() + int(received[1])
        found.append(
            Exchange(method, path, _json(body), raw[received.end() : at], received[2].decode())
        )
    assert found, f"{name} holds no exchange"
    return found


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
