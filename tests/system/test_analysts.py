"""The examples of docs/analysts.md, run as they stand there against a whole installation."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.servers import resolve
from infra.settings import Settings
from tests.fixtures.processes import ROOT, wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

PAGE = ROOT / "docs" / "analysts.md"
BLOCK = re.compile(r"<!-- run: (\S+) -->\n```(python|sh)\n(.*?)```", re.DOTALL)
TOPIC = "thalweg.conversations"
ASKED = "thalweg.conversations.answer_requested"
ENDED = "thalweg.conversations.answer_ended"
EXAMPLE_SECONDS_MAX = 180
Run = Callable[[str], str]


def examples() -> dict[str, str]:
    return {name: code for name, _, code in BLOCK.findall(PAGE.read_text())}


@pytest.fixture(scope="module")
def servers(numbered: RunningThalweg) -> Settings:
    return resolve(Settings(home=numbered.home))


@pytest.fixture
def http(numbered: RunningThalweg) -> Iterator[httpx2.Client]:
    with client(numbered) as of_first_key:
        yield of_first_key


@pytest.fixture
def run(numbered: RunningThalweg, servers: Settings, tmp_path: Path) -> Run:
    """Runs an example in an empty folder, as a reader would who has set what the page names."""
    programs = Path(sys.executable).parent
    env = {
        **numbered.env,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "KAFKA": servers.kafka_servers,
        "URL": numbered.url,
        "KEY": numbered.api_key,
    }

    def example(name: str) -> str:
        (tmp_path / name).write_text(examples()[name])
        shell = ["sh", "-eu", name] if name.endswith(".sh") else [sys.executable, name]
        done = subprocess.run(
            shell,
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=EXAMPLE_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return example


@pytest.fixture
def answered(http: httpx2.Client) -> int:
    """Two answers of five tokens; returns how many tokens there are in all, by the log itself, once
    nothing is open any more: the ends of other tests' answers are shown before they are there."""
    for _ in range(2):
        conversation = http.post("/api/conversations", json={}).json()["conversation"]
        path = f"/api/conversations/{conversation}/messages"
        http.post(path, json={"content": "tokens=5", "parent": None})
    wait_for(lambda: len(ends(http)) == len(events(http, ASKED)), "every answer's end")
    return sum(one["data"]["usage"]["completion_tokens"] for one in ends(http))


def ends(http: httpx2.Client) -> list[dict[str, dict[str, dict[str, int]]]]:
    return events(http, ENDED)


def events(http: httpx2.Client, type_name: str) -> list[dict[str, dict[str, dict[str, int]]]]:
    lines = http.get("/api/events", params={"type": type_name}).text.splitlines()
    return [json.loads(line) for line in lines[:-1]]


def test_every_example_of_the_page_is_run() -> None:
    fences = re.findall(r"^```\w+", PAGE.read_text(), re.MULTILINE)
    assert len(fences) == len(examples()) == 4


def repeat_everything(servers: Settings) -> None:
    """What a relay does that starts over: each event again, as it was, at the end of its topic."""
    consumer = Consumer(
        {"bootstrap.servers": servers.kafka_servers, "group.id": "repeats", "fetch.wait.max.ms": 10}
    )
    producer = Producer({"bootstrap.servers": servers.kafka_servers})
    for number in range(servers.partitions):
        _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, number), timeout=10)
        consumer.assign([TopicPartition(TOPIC, number, 0)])
        while end and consumer.position([TopicPartition(TOPIC, number)])[0].offset < end:
            message = consumer.poll(1)
            if message is None or message.error():
                continue
            producer.produce(
                TOPIC,
                key=message.key(),
                value=message.value(),
                headers=message.headers(),
                partition=number,
            )
    consumer.close()
    assert producer.flush(10) == 0


def test_the_consumer_counts_each_event_once(run: Run, servers: Settings, answered: int) -> None:
    wait_for(lambda: run("tokens_by_model.py") == f"numbered {answered}\n", "the relay")
    repeat_everything(servers)
    assert run("tokens_by_model.py") == f"numbered {answered}\n"


def test_duckdb_reads_an_export(
    run: Run, http: httpx2.Client, answered: int, tmp_path: Path
) -> None:
    run("export.sh")
    shown = run("answers_by_day.py")
    assert "numbered" in shown
    with (tmp_path / "answers_by_day.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"numbered"}
    assert sum(int(row["tokens"]) for row in rows) == answered
    assert sum(int(row["answers"]) for row in rows) == len(ends(http))


def test_the_log_is_fetched_and_gone_on_with(
    run: Run, http: httpx2.Client, answered: int, tmp_path: Path
) -> None:
    run("fetch.py")
    out = tmp_path / "mine.ndjson"
    first = out.read_bytes()
    out.write_bytes(first[:-30])  # a kill
    http.post("/api/conversations", json={})
    run("fetch.py")
    assert out.read_bytes().startswith(first)
    wanted = http.get("/api/events").content.splitlines(keepends=True)[:-1]
    assert out.read_bytes() == b"".join(wanted)
