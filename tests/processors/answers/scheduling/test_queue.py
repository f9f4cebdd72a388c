from collections import Counter
from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from events.conversations import Band
from processors.answers.scheduling import counters
from processors.answers.scheduling.queue import ASKED_AGAIN_SECONDS, Queue
from processors.answers.scheduling.work import Needs, Patience, Queued, QueueLimits, Why
from tests.processors.answers.scheduling.made import FOR_EVER, tenant, work

LIMITS = QueueLimits(
    queued_max=1_000,
    no_capacity_seconds_max=40,
    patience={
        Band.PRIORITY: Patience(float("inf"), 10),
        Band.DEFAULT: Patience(5, 20),
        Band.FLEX: Patience(10, float("inf")),
    },
)


def room(_needs: Needs) -> bool:
    return True


def always(_needs: Needs) -> float | None:
    return 0.0


def never(_needs: Needs) -> float | None:
    return None


def queue_of(*works: Queued, now: float = 0.0) -> Queue:
    queue = Queue(LIMITS)
    for each in works:
        assert queue.put(each, now)
    return queue


def taken(queue: Queue, now: float = 0.0) -> list[Queued]:
    found = []
    while (following := queue.next(now, room)) is not None:
        found.append(following.work)
    return found


def test_bands_go_in_their_order_and_what_was_begun_goes_first():
    flex, default, priority = (work(band=band) for band in reversed(Band))
    begun = work(band=Band.FLEX, begun=True)
    assert taken(queue_of(flex, default, priority, begun)) == [begun, priority, default, flex]


def test_of_one_tenant_the_earliest_deadline_goes_first():
    late, early, middle = (work(asked_at=40.0 - at, deadline=at) for at in (30.0, 10.0, 20.0))
    assert taken(queue_of(late, early, middle)) == [early, middle, late]


def test_work_that_has_waited_counts_as_one_band_higher_and_later_as_two():
    flex = work(band=Band.FLEX)
    queue = queue_of(flex)
    ours = [work(band=Band.DEFAULT, asked_at=10.0, tenant=2) for _ in range(2)]
    for each in ours:
        queue.put(each, 10.0)
    assert taken(queue, 10.0)[1] is flex, "its tenant's turn comes before the other's second"
    flex = work(band=Band.FLEX)
    queue = queue_of(flex)
    priority = work(band=Band.PRIORITY, asked_at=20.0)
    queue.put(priority, 20.0)
    assert taken(queue, 20.0)[0] is flex, "by the same tenant, and asked earlier"


def test_a_tenant_that_was_served_less_goes_first_whatever_it_sends_at_once():
    flood = [work(tenant=1, tokens=100) for _ in range(10)]
    normal = [work(tenant=2, tokens=100) for _ in range(3)]
    order = [each.tenant for each in taken(queue_of(*flood, *normal))]
    assert order[:6] == [tenant(1), tenant(2)] * 3


def test_what_was_not_used_is_given_back():
    queue = queue_of(work(tenant=1, tokens=1_000), work(tenant=1, tokens=1_000))
    first = queue.next(0, room)
    assert first is not None
    queue.put(work(tenant=2, tokens=300), 0)
    queue.put(work(tenant=2, tokens=300), 0)
    queue.settle(first.charge, 10)
    assert [each.tenant for each in taken(queue)] == [tenant(2), tenant(1), tenant(2)]


def test_a_tenant_with_little_to_ask_never_waits_behind_what_a_flood_was_charged_too_much():
    """A flood keeps six calls under way, each charged 1,000 tokens, and uses 50; the other tenant
    asks for the same now and then."""
    queue, under_way = queue_of(*(work(tenant=1, tokens=1_000) for _ in range(90))), []
    for round_ in range(80):
        if round_ % 4 == 3:
            queue.put(work(tenant=2, tokens=1_000), 0)
        following = queue.next(0, room)
        assert following is not None
        if round_ % 4 == 3:
            assert following.work.tenant == tenant(2)
        under_way.append(following.charge)
        if len(under_way) > 6:
            queue.settle(under_way.pop(0), 50)


def test_a_tenant_that_comes_back_has_saved_nothing_up():
    queue = queue_of(*(work(tenant=1) for _ in range(20)))
    for _ in range(10):
        following = queue.next(0, room)
        assert following is not None
        queue.settle(following.charge, following.work.tokens)
    for _ in range(10):
        queue.put(work(tenant=2), 1)
    order = Counter(each.tenant for each in taken(queue)[:6])
    assert order[tenant(1)] == order[tenant(2)] == 3


def test_a_tenant_that_waits_is_not_forgotten_however_many_come(monkeypatch):
    """The first tenant's counter lies below where others begin; who is forgotten is lifted there,
    and would no longer stand in line where it is looked for."""
    monkeypatch.setattr(counters, "TENANTS_MAX", 3)
    queue = queue_of(work(tenant=2, tokens=100))
    second = queue.next(0, room)
    assert second is not None
    queue.put(work(tenant=1, tokens=500), 0)
    first = queue.next(0, room)
    assert first is not None
    queue.put(work(tenant=1), 0)
    queue.settle(second.charge, 100)
    queue.put(work(tenant=2), 0)
    queue.put(work(tenant=3), 0)
    queue.settle(first.charge, 0)
    queue.put(work(tenant=4), 0)
    assert {each.tenant for each in taken(queue)} == {tenant(number) for number in (1, 2, 3, 4)}


def test_a_model_without_room_holds_nobody_else_up():
    full, other = work(model="full"), work(model="other", tokens=10_000)
    queue = queue_of(full, other)
    following = queue.next(0, lambda needs: needs[0] == "other")
    assert following is not None
    assert following.work is other
    assert queue.next(0, lambda needs: needs[0] == "other") is None
    assert full.answer in queue


def test_what_is_past_its_deadline_is_given_up_and_never_dispatched():
    dead, alive = work(deadline=5.0), work(deadline=50.0)
    queue = queue_of(dead, alive)
    assert taken(queue, 5.0) == [alive]
    assert list(queue.given_up(5.0, always)) == [(dead, Why.DEADLINE)]
    assert not list(queue.given_up(6.0, always))


def test_others_are_served_all_the_time_then_it_is_contended():
    waiting = work(band=Band.PRIORITY)
    queue = queue_of(waiting)
    assert not list(queue.given_up(9.9, always))
    assert list(queue.given_up(10.0, always)) == [(waiting, Why.CONTENDED)]


def test_without_an_engine_work_waits_longer_before_it_is_given_up():
    waiting = work(band=Band.PRIORITY)
    queue = queue_of(waiting)
    assert not list(queue.given_up(10.0, never))
    assert not list(queue.given_up(39.9, never))
    assert list(queue.given_up(40.0, never)) == [(waiting, Why.NO_CAPACITY)]


def test_the_time_without_an_engine_is_no_contention():
    waiting = work(band=Band.PRIORITY)
    queue = queue_of(waiting)
    assert not list(queue.given_up(30.0, never))
    assert not list(queue.given_up(39.0, lambda _needs: 35.0))
    assert not list(queue.given_up(44.9, lambda _needs: 35.0))
    assert list(queue.given_up(45.0, lambda _needs: 35.0)) == [(waiting, Why.CONTENDED)]


def test_flex_waits_until_its_deadline_while_others_are_served():
    waiting = work(band=Band.FLEX, deadline=500.0)
    queue = queue_of(waiting)
    for now in range(0, 499, 3):
        assert not list(queue.given_up(float(now), always))
    assert list(queue.given_up(500.0, always)) == [(waiting, Why.DEADLINE)]


def test_what_has_outwaited_every_bound_is_still_given_up_when_the_engines_go():
    waiting = work(band=Band.FLEX)
    queue = queue_of(waiting)
    assert not list(queue.given_up(41.0, always))
    assert list(queue.given_up(41.0 + ASKED_AGAIN_SECONDS, never)) == [(waiting, Why.NO_CAPACITY)]


def test_what_was_called_in_vain_for_long_is_given_up_soon_if_there_is_no_engine():
    waiting = work(band=Band.PRIORITY)
    patient = replace(LIMITS, patience={Band.PRIORITY: Patience(float("inf"), 1_000)})
    queue = Queue(patient)
    assert queue.put(waiting, 50.0)
    assert list(queue.given_up(50.0 + ASKED_AGAIN_SECONDS, never)) == [(waiting, Why.NO_CAPACITY)]


def test_the_time_in_which_others_were_served_is_no_time_without_an_engine():
    waiting = work(band=Band.FLEX)
    queue = queue_of(waiting)
    for now in range(1_000):
        assert not list(queue.given_up(float(now), always))
    for now in range(1_000, 1_039):
        assert not list(queue.given_up(float(now), never, lambda _: 1_000.0)), "they may be back"
    for now in range(1_039, 1_050):
        assert not list(queue.given_up(float(now), always))
    gone = [
        each for now in range(1_050, 1_100) for each in queue.given_up(now, never, lambda _: 1_050)
    ]
    assert gone == [(waiting, Why.NO_CAPACITY)]


def test_what_was_begun_is_not_given_up_before_its_deadline():
    begun = work(begun=True, deadline=300.0)
    queue = queue_of(begun)
    assert not list(queue.given_up(299.0, never))
    assert list(queue.given_up(300.0, never)) == [(begun, Why.DEADLINE)]


def test_it_is_bounded():
    queue = queue_of(*(work() for _ in range(1_000)))
    assert queue.is_full
    assert not queue.put(work(), 0)
    assert len(queue) == 1_000


def test_what_was_removed_comes_no_more():
    gone, stays = work(), work()
    queue = queue_of(gone, stays)
    assert queue.remove(gone.answer) is gone
    assert queue.remove(gone.answer) is None
    assert taken(queue) == [stays]


def test_what_was_removed_is_not_told_as_given_up_though_its_deadline_had_passed():
    dead = work(deadline=5.0)
    queue = queue_of(dead)
    assert queue.next(5.0, room) is None
    assert queue.remove(dead.answer) is dead
    assert not list(queue.given_up(5.0, always))


def test_it_says_when_it_is_to_be_asked_again():
    queue = Queue(LIMITS)
    assert queue.wakes_at() == float("inf")
    queue.put(work(), 0)
    assert queue.wakes_at() == 5.0


BANDS = st.sampled_from(list(Band))
WORK = st.builds(
    lambda who, band, tokens, left, begun, model: (who, band, tokens, left, begun, model),
    st.integers(1, 4),
    BANDS,
    st.integers(1, 500),
    st.floats(0.5, 60),
    st.booleans(),
    st.sampled_from("ab"),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), WORK),
        st.tuples(st.just("next"), st.sampled_from(["", "a", "b", "ab"])),
        st.tuples(st.just("give up"), st.booleans()),
        st.tuples(st.just("remove"), st.integers(0, 50)),
        st.tuples(st.just("pass"), st.floats(0.1, 12)),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_each_request_leaves_once_and_none_too_late(steps):
    queue, now = Queue(LIMITS), 0.0
    inside: dict[object, Queued] = {}
    for what, value in steps:
        if what == "put":
            who, band, tokens, left, begun, model = value
            one = work(
                tenant=who,
                band=band,
                tokens=tokens,
                asked_at=now,
                deadline=now + left,
                begun=begun,
                model=model,
            )
            assert queue.put(one, now)
            inside[one.answer] = one
        elif what == "next":
            following = queue.next(now, lambda needs, some=value: needs[0] in some)
            if following is not None:
                assert following.work.model in value
                assert now < following.work.deadline
                assert inside.pop(following.work.answer) is following.work
            else:
                left = [each for each in inside.values() if each.model in value]
                assert all(each.deadline <= now for each in left), "nothing waits in vain"
        elif what == "give up":
            for one, why in queue.given_up(now, always if value else never):
                assert inside.pop(one.answer) is one
                assert (why is Why.DEADLINE) == (one.deadline <= now)
            assert all(each.deadline > now for each in inside.values())
        elif what == "remove":
            if inside:
                answer = list(inside)[value % len(inside)]
                assert queue.remove(answer) is inside.pop(answer)
        else:
            now += value
    assert len(queue) <= len(inside)


@given(st.lists(st.lists(st.integers(1, 400), min_size=8, max_size=30), min_size=3, max_size=3))
def test_tenants_that_have_work_all_the_time_differ_by_one_largest_request_at_most(sizes):
    queue = queue_of(
        *(
            work(tenant=who, tokens=tokens)
            for who, all_of_it in enumerate(sizes)
            for tokens in all_of_it
        )
    )
    served: Counter[UUID] = Counter()
    left = Counter({tenant(who): len(all_of_it) for who, all_of_it in enumerate(sizes)})
    while all(left.values()):
        following = queue.next(0, room)
        assert following is not None
        served[following.work.tenant] += following.work.tokens
        left[following.work.tenant] -= 1
        got = [served[tenant(who)] for who in range(3)]
        assert max(got) - min(got) <= max(map(max, sizes))


@given(st.integers(0, 10_000))
def test_a_flood_of_priority_starves_nobody(seed):
    """One request at a time takes a second; two of priority come each second, for ever."""
    flex = work(band=Band.FLEX, tenant=9, asked_at=0.0, deadline=FOR_EVER, tokens=1 + seed % 500)
    queue, now = queue_of(flex), 0.0
    while flex.answer in queue and now < 60:
        for who in (1, 2):
            queue.put(work(band=Band.PRIORITY, tenant=who, asked_at=now, tokens=50), now)
        queue.next(now, room)
        list(queue.given_up(now, always))
        now += 1
    assert flex.answer not in queue
    assert now <= 2 * 10 + 1 + 2, "it climbs twice, and then its tenant's turn comes"
