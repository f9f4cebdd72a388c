"""Log files: a bound on their size, and a full disk ends nobody who writes."""

import json
import os
from pathlib import Path

import pytest

from infra.servers.warden import Log


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(str(tmp_path / "a.log"), 100)


def test_a_full_log_is_turned_over(log: Log) -> None:
    for letter in b"abc":
        log.write(bytes([letter]) * 60)
    log.close()
    assert Path(log.path).read_bytes() == b"c" * 60
    assert Path(log.path + ".1").read_bytes() == b"b" * 60


def test_a_full_disk_ends_nobody_who_writes_and_is_told_of_afterwards(log: Log) -> None:
    kept = log.file
    log.file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    log.write(b"gone\n")
    log.file.close()
    log.file = kept
    log.write(b"here\n")
    log.close()
    _, told, after = Path(log.path).read_bytes().split(b"\n", 2)
    assert json.loads(told)["message"] == "5 bytes were left out: the disk was full"
    assert after == b"here\n"


def test_a_log_that_can_not_be_turned_over_is_written_again_once_it_can(log: Log) -> None:
    log.write(b"x" * 60)
    blocked = Path(log.path + ".1")
    blocked.mkdir()
    log.write(b"y" * 60)
    blocked.rmdir()
    log.write(b"z" * 30)
    log.close()
    assert Path(log.path).read_bytes().endswith(b"z" * 30)
    assert os.path.getsize(log.path + ".1") == 60
