"""What clients of the native API send in these tests."""

from typing import Any

import httpx2


class Talk:
    """One conversation, as a client sees it."""

    def __init__(self, http: httpx2.AsyncClient, conversation: str) -> None:
        self.http = http
        self.conversation = conversation
        self.path = f"/api/conversations/{conversation}"

    async def post(self, parent: str | None = None, **body: Any) -> httpx2.Response:
        return await self.send("messages", {"content": "Hi", "parent": parent, **body})

    async def send(
        self, where: str, body: dict[str, Any], key: str | None = None
    ) -> httpx2.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.http.post(f"{self.path}/{where}", json=body, headers=headers)

    async def change(self, key: str | None = None, **body: Any) -> httpx2.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.http.patch(self.path, json=body, headers=headers)

    async def delete(self, key: str | None = None) -> httpx2.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.http.delete(self.path, headers=headers)


async def talk(http: httpx2.AsyncClient, **body: Any) -> Talk:
    answered = await http.post("/api/conversations", json=body)
    assert answered.status_code == 201, answered.text
    return Talk(http, answered.json()["conversation"])
