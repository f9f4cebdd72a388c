"""What engines served until lately may be served again soon."""

from processors.answers.scheduling.lately import KEPT_MAX, LATELY_SECONDS, Lately

ANY: frozenset[str] = frozenset()


def test_a_model_may_be_served_for_a_while_after_its_last_engine_has_gone() -> None:
    lately = Lately()
    lately.ceased("a", ["one", "two"], 10)
    for asked_at in (5, 10, 10 + LATELY_SECONDS):
        assert lately.may_serve(("one", ANY), asked_at)
    assert not lately.may_serve(("one", ANY), 10.1 + LATELY_SECONDS)
    assert not lately.may_serve(("three", ANY), 10)
    assert set(lately.models(10 + LATELY_SECONDS)) == {"one", "two"}
    assert not set(lately.models(10.1 + LATELY_SECONDS))


def test_an_engine_that_could_not_do_it_is_none_to_wait_for() -> None:
    lately = Lately()
    lately.ceased("a", ["one"], 10)
    assert not lately.may_serve(("one", frozenset("a")), 10)
    lately.ceased("b", ["one"], 10)
    assert lately.may_serve(("one", frozenset("a")), 10)


def test_of_very_many_the_one_that_went_first_is_forgotten() -> None:
    lately = Lately()
    for number in range(KEPT_MAX):
        lately.ceased(f"engine-{number}", ["one"], number / KEPT_MAX)
    lately.ceased("engine-0", ["one"], 1)
    lately.ceased("another", ["one"], 1)
    assert len(list(lately.models(1))) == KEPT_MAX
    assert lately.may_serve(("one", frozenset(f"engine-{n}" for n in range(1, KEPT_MAX))), 1)
