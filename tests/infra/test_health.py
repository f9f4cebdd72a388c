"""What /readyz may say to anybody: that something is away, not what a driver says about it."""

import pytest

from infra.health import READY, Health


async def test_what_a_driver_says_is_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def well() -> str:
        return READY

    async def broken() -> str:
        raise OSError('connection to "10.0.0.7" as "admin" failed')

    health = Health({"redis": well, "postgres": broken}, commands_need=["postgres"])
    report = await health.check()
    assert not report.commands_ready
    assert report.dependencies == {"redis": "ready", "postgres": "unreachable"}
    (told,) = [vars(one) for one in caplog.records if one.name == "thalweg.health"]
    assert "10.0.0.7" in told["reason"]


async def test_what_is_only_told_decides_nothing() -> None:
    async def well() -> str:
        return READY

    async def parked() -> str:
        return "2 streams parked"

    checks = {"postgres": well, "projections": parked}
    health = Health(checks, commands_need=["postgres"], told_only=["projections"])
    report = await health.check()
    assert (report.commands_ready, report.answers_ready) == (True, True)
    assert report.dependencies["projections"] == "2 streams parked"


@pytest.mark.parametrize(
    ("away", "commands_ready"), [("postgres", False), ("kafka", True), ("engines", True)]
)
async def test_whatever_is_away_no_answers_can_be_given_and_commands_only_need_their_store(
    away: str, commands_ready: bool
) -> None:
    async def well() -> str:
        return READY

    async def silent() -> str:
        return "no answer"

    checks = dict.fromkeys(["postgres", "kafka", "engines"], well) | {away: silent}
    report = await Health(checks, commands_need=["postgres"]).check()
    assert (report.commands_ready, report.answers_ready) == (commands_ready, False)
