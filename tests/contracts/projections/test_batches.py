"""However the log is cut into batches, and whatever the relay repeats: the same rows."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from events.conversations import AnswerEnded, AnswerRequested
from events.envelope import Recorded
from projections import dead_letters, versions
from projections.conversations import Histories
from projections.deliveries import Delivery
from projections.digests import digest
from projections.projection import Projection, beside
from projections.runner import Runner
from projections.tables import Db
from projections.usage import Usage
from tests.contracts.projections.deliver import Partition
from tests.projections.histories_events import mixed
from tests.projections.pasts import pasts

SEEDS = (1, 2, 3)
CONVERSATIONS = 25


def cuts(
    batch: Sequence[Delivery], chance: random.Random, longest: int
) -> Iterator[list[Delivery]]:
    at = 0
    while at < len(batch):
        size = chance.randint(1, longest)
        yield list(batch[at : at + size])
        at += size


def with_repeats(log: list[Recorded], chance: random.Random) -> list[Recorded]:
    """A relay that starts over again and again, from anywhere before."""
    sent: list[Recorded] = []
    at = 0
    while at < len(log):
        back = max(0, at - chance.randint(0, 40))
        at = min(len(log), at + chance.randint(1, 60))
        sent += log[back:at]
    return sent


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("projection", [Histories(), Usage()], ids=lambda one: one.tables.name)
def test_any_cut_and_any_repeats_give_the_same_digest(
    db: Db, projection: Projection, seed: int
) -> None:
    chance, log = random.Random(seed), mixed(pasts(seed, CONVERSATIONS))
    whole = Partition().send(log)
    ways = [
        [whole],
        [[one] for one in whole],
        list(cuts(whole, chance, 60)),
        list(cuts(Partition().send(with_repeats(log, chance)), chance, 60)),
    ]
    digests = []
    for number, batches in enumerate(ways, 1):
        build = beside(projection, number)
        if number > 1:
            versions.begin(db, build.tables)
        runner = Runner(build, gap_seconds_max=5)
        runner.create(db)
        for batch in batches:
            runner.apply(db, batch)
        assert dead_letters.counts(db, build.tables).letters == 0
        digests.append(digest(db, build.tables, build.digested_suffixes))
    assert digests[0].of[""].rows > 0
    assert digests == digests[:1] * len(ways)


@pytest.mark.parametrize("seed", SEEDS)
def test_usage_counts_the_first_end_of_each_answer_that_was_asked_for(db: Db, seed: int) -> None:
    log = mixed(pasts(seed, CONVERSATIONS))
    runner = Runner(Usage(), gap_seconds_max=5)
    runner.create(db)
    runner.apply(db, Partition().send(with_repeats(log, random.Random(seed))))
    asked: dict[object, tuple[object, ...]] = {}
    expected: Counter[tuple[object, ...]] = Counter()
    for one in log:
        if isinstance(one.event, AnswerRequested):
            asked[one.event.answer] = one.meta.tenant, one.meta.subject, one.event.model
        elif isinstance(one.event, AnswerEnded) and one.event.answer in asked:
            key = *asked.pop(one.event.answer), one.meta.time.date()
            expected[*key, "in"] += one.event.usage.prompt_tokens
            expected[*key, "out"] += one.event.usage.completion_tokens
            expected[*key, "answers"] += 1
    found: Counter[tuple[object, ...]] = Counter()
    rows = db.execute(
        "SELECT tenant, subject, model, day, prompt_tokens, completion_tokens,"
        " finished + failed + cancelled FROM usage_v1"
    )
    for tenant, subject, model, day, came, went, answers in rows:
        key = tenant, subject.replace("\x1a0", "\0"), model, day
        found[*key, "in"] += came
        found[*key, "out"] += went
        found[*key, "answers"] += answers
    assert +found == +expected
    assert expected
