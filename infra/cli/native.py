"""The native API as the command line calls it: with the key of the home folder, one connection."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from infra.settings import Settings

SILENCE_SECONDS_MAX = 120.0  # longer than keepalive_seconds and an engine's first token
FRAME_BYTES_MAX = 1_048_576  # of a line of a stream: an entry has at most an answer's text


class Refused(Exception):
    """What the gateway said to a request that it did not take; or why there was none."""

    def __init__(self, words: str, problem: dict[str, Any] | None = None) -> None:
        super().__init__(words)
        self.problem = problem or {}


class Api:
    """Closed by leaving its block. Raises Refused, in words for people."""

    def __init__(self, settings: Settings) -> None:
        self._address = f"{settings.local_host}:{settings.port}"
        try:
            self._key = (settings.home / "api-key").read_text().strip()
        except FileNotFoundError:
            missing = f"There is no {settings.home / 'api-key'}; start with `thalweg up`."
            raise Refused(missing) from None
        self._connection = http.client.HTTPConnection(
            settings.local_host, settings.port, timeout=SILENCE_SECONDS_MAX
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, **query: object) -> dict[str, Any]:
        given = {name: value for name, value in query.items() if value is not None}
        return self._answered("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._answered("POST", path, body)

    def delete(self, path: str) -> dict[str, Any]:
        return self._answered("DELETE", path)

    def pages(self, path: str, count: int, **query: object) -> list[dict[str, Any]]:
        """The first `count` items of a list."""
        found: list[dict[str, Any]] = []
        cursor = None
        while len(found) < count:
            limit = min(100, count - len(found))
            page = self.get(path, limit=limit, cursor=cursor, **query)
            found += page["data"]
            cursor = page["next"]
            if cursor is None:
                break
        return found

    def events(self, path: str, last_id: str | None = None) -> Iterator[tuple[str, str, Any]]:
        """(id, event, data) of a stream of server-sent events, until it ends."""
        headers = {"Last-Event-ID": last_id} if last_id is not None else {}
        response = self._send("GET", path, headers=headers)
        fields = {"id": "", "event": "", "data": ""}
        try:
            while line := response.readline(FRAME_BYTES_MAX):
                name, _, value = line.decode().rstrip("\r\n").partition(": ")
                if name in fields:
                    fields[name] = value
                elif not name and fields["event"]:
                    yield fields["id"], fields["event"], json.loads(fields["data"])
                    fields["event"] = fields["data"] = ""
        finally:  # what is left of a stream is in the way of the next request
            self._connection.close()

    def _answered(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._send(method, path, body).read())
        except (OSError, http.client.HTTPException) as problem:
            raise self._silent(problem) from None
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        sent = {"Authorization": f"Bearer {self._key}", **(headers or {})}
        if method != "GET":
            sent["Idempotency-Key"] = str(uuid.uuid4())
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, sent)
            response = self._connection.getresponse()
            if response.status >= http.client.BAD_REQUEST:
                raise _refused(response.read())
        except (OSError, http.client.HTTPException) as problem:
            raise self._silent(problem) from None
        return response

    def _silent(self, problem: Exception) -> Refused:
        return Refused(f"The gateway at {self._address} does not answer: {problem}.")


def _refused(body: bytes) -> Refused:
    try:
        problem = json.loads(body)
        return Refused(str(problem["detail"]), problem)
    except (ValueError, KeyError, TypeError):
        return Refused(body.decode(errors="replace"))
