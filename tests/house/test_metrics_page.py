"""The page for operators lists the figures that there are.

`python -m tests.house.test_metrics_page` writes its tables anew.
"""

import re

import yaml

from infra.metrics.families import FAMILIES
from infra.supervisor import ROLES
from tests.house.tables import with_tables
from tests.house.test_house_rules import ROOT

PAGE = ROOT / "docs" / "operations.md"
FIRST_PORT = 9464
"""OpenTelemetry's default for Prometheus exporters; of the examples."""


def table_of_families() -> str:
    lines = ["| family | kind | of | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    for one in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(f"| `{one.name}` | {one.kind} | {one.role} | {labels} | {one.meaning} |")
    return "\n".join(lines)


def table_of_ports() -> str:
    ports = " | ".join(f"+ {number}" if number else "the port" for number in range(len(ROLES)))
    head = " | ".join(ROLES)
    return f"| {head} |\n|{' --- |' * len(ROLES)}\n| {ports} |"


def with_its_tables(text: str) -> str:
    tables = {"metrics": table_of_families(), "metrics ports": table_of_ports()}
    return with_tables(text, tables, "docs/operations.md")


def test_the_page_for_operators_has_every_family() -> None:
    text = PAGE.read_text()
    assert with_its_tables(text) == text, "run `python -m tests.house.test_metrics_page`"


def test_the_example_of_a_scrape_has_a_target_for_each_role() -> None:
    (example,) = re.findall(r"^    scrape_configs:\n(?:    .*\n)+", PAGE.read_text(), re.MULTILINE)
    (job,) = yaml.safe_load(example)["scrape_configs"]
    targets = [target for each in job["static_configs"] for target in each["targets"]]
    assert targets == [f"127.0.0.1:{FIRST_PORT + number}" for number in range(len(ROLES))]


if __name__ == "__main__":
    PAGE.write_text(with_its_tables(PAGE.read_text()))
