"""What else goes on while clients converse: commands that change nothing, calls without a key, and
conversations that are not stored, of which keys run out. Each is repeated until it succeeds."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import httpx2
import openai
import psycopg

from tests.faults.checker.text import check_text
from tests.faults.world import OWN_KEY
from tests.fixtures.thalweg import RunningThalweg

EXPIRE = "UPDATE conversations.content_keys SET expires_at = now() - interval '1 second'"
RETRIES_MAX = 30
AGAIN_SECONDS = 0.2
TOKENS = 5
"""Of a completion."""
STREAMS_OF_A_DAY = 2
"""So many streams one round begins by calls that have no key."""


async def everyday(thalweg: RunningThalweg, database_url: str, model: str) -> list[str]:
    """One round. Returns what is wrong with what it got."""
    headers = {"Authorization": f"Bearer {thalweg.api_key}"}
    async with httpx2.AsyncClient(base_url=thalweg.url, headers=headers, timeout=30) as http:
        await _change_nothing(http)
        await asyncio.to_thread(_let_keys_run_out, database_url)
    return await _deliver_without_a_key(thalweg, model)


async def _change_nothing(http: httpx2.AsyncClient) -> None:
    started = await _insist(http, "POST", "/api/conversations", {})
    path = f"/api/conversations/{started.json()['conversation']}"
    for _ in range(2):
        await _insist(http, "PATCH", path, {"archived": True})


async def _deliver_without_a_key(thalweg: RunningThalweg, model: str) -> list[str]:
    """Two on one connection: whoever asks for the second one has read the first. No other round
    asks for the same: a repeat would join its last turn, whose key has run out since.
    """
    found = []
    asked = f"tokens={TOKENS} {uuid4()}"
    async with openai.AsyncOpenAI(
        base_url=f"{thalweg.url}/v1", api_key=thalweg.api_key, max_retries=RETRIES_MAX
    ) as sdk:
        for _ in range(2):
            got = await sdk.chat.completions.create(
                model=model, messages=[{"role": "user", "content": asked}], store=False
            )
            text = got.choices[0].message.content or ""
            found += [str(one) for one in check_text(f"completion {got.id}", [text], TOKENS)]
    return found


def _let_keys_run_out(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(EXPIRE)


async def _insist(
    http: httpx2.AsyncClient, method: str, path: str, body: dict[str, object]
) -> httpx2.Response:
    key = f"{OWN_KEY}{uuid4().hex}"
    while True:
        with suppress(httpx2.TransportError):
            answered = await http.request(method, path, json=body, headers={"Idempotency-Key": key})
            if answered.status_code < 300:
                return answered
            assert answered.status_code in (429, 500, 502, 503), answered.text
        await asyncio.sleep(AGAIN_SECONDS)
