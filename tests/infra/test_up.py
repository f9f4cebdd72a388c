"""`thalweg up` once everything runs: nothing that a gateway does then ends the installation."""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from rich.console import Console

from infra.cli import up
from infra.settings import Settings

WIDE = 1_000


@contextmanager
def nobody() -> Iterator[int]:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


@contextmanager
def stands() -> Iterator[int]:
    """As one that is paused: connections wait."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def says(answer: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):  # who asks may have given up
                connection.recv(65_536)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        yield listener.getsockname()[1]
        serving.join()


def body(words: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(words)}\r\n\r\n{words}".encode()


GATEWAYS = {
    "is away": nobody,
    "stands": stands,
    "is killed meanwhile": lambda: says(b""),
    "speaks no HTTP": lambda: says(b"220 welcome\r\n"),
    "has no models": lambda: says(body('{"data": []}')),
    "refuses": lambda: says(body('{"error": {}}')),
}


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_gateway_that_does_not_answer_any_more_is_welcomed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: str
) -> None:
    monkeypatch.setattr(up, "ASK_SECONDS_MAX", 0.2)
    (tmp_path / "api-key").write_text("tw_key\n")
    said = io.StringIO()
    with GATEWAYS[gateway]() as port:
        up._welcome(Settings(home=tmp_path, port=port), Console(file=said, width=WIDE))
    assert "Thalweg is ready" in said.getvalue()
    assert '"model": "default"' in said.getvalue()


def test_the_example_names_a_model_that_is_served(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("tw_key\n")
    said = io.StringIO()
    with says(body('{"data": [{"id": "mine"}]}')) as port:
        up._welcome(Settings(home=tmp_path, port=port), Console(file=said, width=WIDE))
    assert '"model": "mine"' in said.getvalue()
