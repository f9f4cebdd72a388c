"""Reads what a role shows, as Prometheus does."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from infra.metrics.listener import exposition


@dataclass(frozen=True)
class Figures:
    """All samples of one scrape."""

    families: tuple[Metric, ...]

    @classmethod
    def of(cls, text: str) -> "Figures":
        return cls(tuple(text_string_to_metric_families(text)))

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name which have these labels; 0: there is none."""
        return sum(
            value
            for sample, has, value in self._samples()
            if sample == name and labels.items() <= has.items()
        )

    def series(self, prefix: str = "") -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {
            (name, tuple(sorted(labels.items())))
            for name, labels, _ in self._samples()
            if name.startswith(prefix)
        }

    def labels(self, name: str) -> set[str]:
        """Of a family."""
        (family,) = [one for one in self.families if one.name == name]
        return {label for sample in family.samples for label in sample.labels} - {"le"}

    def values(self, name: str, label: str) -> set[str]:
        return {labels[label] for sample, labels, _ in self._samples() if sample == name}

    def _samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for family in self.families:
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value


async def figures(registry: CollectorRegistry) -> Figures:
    return Figures.of((await exposition(registry)).decode())
