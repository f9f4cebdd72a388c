"""One whole Thalweg for all faults, with engines of three models: two that speak TGI's protocol,
two that speak OpenAI's, and one that is alone."""

from collections.abc import Iterator

import pytest

from tests.faults.engines import ALONE, OPENAI, TGI, Engines
from tests.fixtures.thalweg import RunningThalweg


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    engines = Engines(
        tmp_path_factory.mktemp("engines"),
        [("tgi", TGI), ("tgi", TGI), ("openai", OPENAI), ("openai", OPENAI), ("tgi", ALONE)],
    )
    yield engines
    engines.stop()


@pytest.fixture(scope="session")
def thalweg(tmp_path_factory: pytest.TempPathFactory, engines: Engines) -> Iterator[RunningThalweg]:
    told = {"THALWEG_FAILPOINTS": "file", "THALWEG_RESTART_DELAY_SECONDS_MAX": "0.25"}
    home = tmp_path_factory.mktemp("faults")
    with RunningThalweg(home, engines=engines.setting, **told) as running:
        yield running
