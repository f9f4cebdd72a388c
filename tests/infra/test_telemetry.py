"""Logs stay readable while Kafka is away for hours."""

import logging

from infra.telemetry import SHAPES_MAX, Repeats

REFUSED = "FAIL [relay#producer-%d] 127.0.0.1:9092: Connect failed: refused (after %dms)"


def line(name: str, message: str, *numbers: int) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, numbers, None)


def test_what_kafkas_clients_repeat_is_left_out_and_counted() -> None:
    repeats = Repeats(seconds=3600)
    shown = [repeats.filter(line("thalweg.kafka", REFUSED, 2, after)) for after in range(5)]
    assert shown == [True, False, False, False, False]
    repeats._seconds = 0
    later = line("thalweg.kafka", REFUSED, 2, 7)
    assert repeats.filter(later)
    assert vars(later)["repeated"] == 4


def test_other_words_are_shown_and_so_are_ours_however_often() -> None:
    repeats = Repeats(seconds=3600)
    for name, message in (
        ("aiokafka", "Unable connect to node with id 1"),
        ("aiokafka.consumer.fetcher", "Unable connect to node with id 1"),
        ("aiokafka", "Unable to update metadata from [1]"),
    ):
        assert repeats.filter(line(name, message))
        assert not repeats.filter(line(name, message))
    for _ in range(3):
        assert repeats.filter(line("thalweg.kafka", "the Kafka producer starts over"))
        assert repeats.filter(line("thalweg.answers", "an engine failed"))


def test_its_memory_is_bounded() -> None:
    repeats = Repeats(seconds=3600)
    for number in range(3 * SHAPES_MAX):
        assert repeats.filter(line("aiokafka", "x" * (number % 100) + chr(200 + number)))
    assert len(repeats._shapes) <= SHAPES_MAX
