"""The comparison as a part of the run: each subject is started, asked, killed twice and stopped."""

import asyncio
from collections.abc import Callable

from tests.bench.client import CHAT, RESPONSES
from tests.bench.parts import Part
from tests.bench.peers import report
from tests.bench.peers.measure import subject
from tests.bench.peers.subject import Subject, environment
from tests.bench.peers.subjects import LiteLLM, Ogx, Thalweg
from tests.bench.rows import Row
from tests.bench.world import World, where


def subjects(world: World) -> list[Callable[[], Subject]]:
    """Thalweg, and the peers whose environments are there."""
    folder, port = world.folder / "peers", world.engine.port
    found: list[Callable[[], Subject]] = [lambda: Thalweg(folder, port)]
    litellm, ogx = environment("litellm"), environment("ogx")
    if litellm is None:
        world.console.log("LiteLLM is not installed: make peers")
    else:
        found.append(lambda: LiteLLM(folder, port, litellm))
    if ogx is None:
        world.console.log("OGX is not installed: make peers, with Python 3.12 or later")
    else:
        found.append(lambda: Ogx(folder, port, ogx, path=CHAT))
        found.append(lambda: Ogx(folder, port, ogx, path=RESPONSES))
    return found


async def compared(world: World) -> list[Row]:
    """The table is printed and kept for the document; it has no aims."""
    scale, found, asked = world.scale, [], []
    for make in subjects(world):
        one = make()
        world.console.log(f"{one.name} {one.version}: {one.settings}")
        try:
            await asyncio.to_thread(one.start)
            measured = await subject(
                one,
                world.engine,
                pairs=scale.peer_pairs,
                seconds=scale.peer_seconds,
                sends=scale.peer_sends,
            )
        finally:
            await asyncio.to_thread(one.stop)
        found.append(measured)
        asked.append(one)
    world.console.print(report.table(found))
    world.sections["peers"] = f"{where()}\n\n{report.markdown(found, asked)}"
    return []


PEERS = Part("peers", "the same of LiteLLM and OGX", compared, alone=True)
