"""What is written in one turn of the event loop goes out together."""

import asyncio

from gateway.corked import CorkedTransport


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.over = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.over = "closed"

    def abort(self) -> None:
        self.over = "aborted"

    def is_closing(self) -> bool:
        return bool(self.over)


async def test_a_turn_is_one_write() -> None:
    wire = Wire()
    corked = CorkedTransport(wire, asyncio.get_running_loop(), gathered_bytes=100)
    corked.write(b"head ")
    corked.write(b"body")
    assert wire.sent == []
    await asyncio.sleep(0)
    corked.write(b"next")
    await asyncio.sleep(0)
    assert wire.sent == [b"head body", b"next"]


async def test_no_more_than_its_bound_is_gathered() -> None:
    wire = Wire()
    corked = CorkedTransport(wire, asyncio.get_running_loop(), gathered_bytes=100)
    for _ in range(3):
        corked.write(b"x" * 60)
    assert wire.sent == [b"x" * 120]
    await asyncio.sleep(0)
    assert wire.sent == [b"x" * 120, b"x" * 60]


async def test_what_was_written_goes_out_before_a_close_and_not_after_an_abort() -> None:
    for how, sent in (("close", [b"last"]), ("abort", [])):
        wire = Wire()
        corked = CorkedTransport(wire, asyncio.get_running_loop(), gathered_bytes=100)
        corked.write(b"last")
        getattr(corked, how)()
        corked.write(b"late")
        await asyncio.sleep(0)
        assert wire.sent == sent
        assert wire.over
