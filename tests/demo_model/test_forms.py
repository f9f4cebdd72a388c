"""The model in the form of Hugging Face, which TGI loads, says what CTranslate2's form says."""

import json
import subprocess
from pathlib import Path

import pytest

from infra.local_engine.main import DEMO_MODEL
from tests.demo_model.conftest import Ask

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-train" / "bin" / "python"
download_seconds_max = 800  # of torch and what it needs, the first time
check_seconds_max = 600
size_bytes_max = 8_000_000  # of both forms, in the repository


@pytest.fixture(scope="session")
def train_environment() -> Path:
    """The interpreter of the environment with torch and transformers; made if it is not there."""
    if not PYTHON.exists():
        command = ["make", ".venv-train/stamps/train"]
        subprocess.run(command, cwd=ROOT, timeout=download_seconds_max, check=True)
    return PYTHON


@pytest.fixture
async def pairs(ask: Ask) -> list[dict[str, str]]:
    """All questions, and one that is none of them, with CTranslate2's answers."""
    lines = (DEMO_MODEL.parent / "questions.jsonl").read_text("utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines] + ["What is an octopus?"]
    return [
        {"question": text, "answer": await ask([{"role": "user", "content": text}])}
        for text in questions
    ]


@pytest.mark.timeout(download_seconds_max + check_seconds_max + 20)
def test_both_forms_give_the_same_greedy_answers(
    pairs: list[dict[str, str]], train_environment: Path
) -> None:
    finished = subprocess.run(
        [train_environment, ROOT / "demo_model" / "check_hf.py"],
        input=json.dumps(pairs),
        capture_output=True,
        text=True,
        timeout=check_seconds_max,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == []


def test_both_forms_are_small() -> None:
    files = [path for form in ("hf", "ct2") for path in (DEMO_MODEL.parent / form).iterdir()]
    assert sum(path.stat().st_size for path in files) < size_bytes_max
