"""Kafka's jars: fetched by Maven coordinate, checked against recorded hashes, kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")
DOWNLOADS_AT_ONCE_MAX = 8  # a public repository is not ours to flood
TRIES_MAX = 3


class JarRefused(Exception):
    """A downloaded jar is not the one that was recorded."""

    def __init__(self, coordinate: str, expected: str, found: str) -> None:
        super().__init__(
            f"{coordinate} has the SHA-256 {found}, but {LOCK_FILE.name} says {expected}; "
            "the repository, or something on the way to it, gave another file. It was not kept."
        )


def locked() -> list[tuple[str, str]]:
    """(coordinate, SHA-256) of every jar, in the order of the class path."""
    rows = (line.split() for line in LOCK_FILE.read_text().splitlines())
    return [(row[1], row[0]) for row in rows if row and not row[0].startswith("#")]


class DownloadStopped(Exception):
    """Somebody wanted to stop."""


def fetch(
    cache: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
    unwanted: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """The jars' paths; downloads what the cache lacks.

    `progress(done, of)` is told of each jar; when `unwanted()` says yes, `DownloadStopped` is
    raised after the jars under way.
    """
    wanted = locked()
    digest = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()[:16]
    folder = cache / f"kafka-{digest}"
    paths = [folder / f"{coordinate.replace(':', '_')}.jar" for coordinate, _ in wanted]
    complete = folder / "complete"
    if complete.exists() and all(path.exists() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:  # two homes that start at once download once
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = 0
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE_MAX) as pool:
            jobs = [
                pool.submit(_one, coordinate, expected, path)
                for (coordinate, expected), path in zip(wanted, paths, strict=True)
            ]
            for job in jobs:
                job.result()
                if unwanted():
                    pool.shutdown(cancel_futures=True)
                    raise DownloadStopped
                done += 1
                progress(done, len(wanted))
        complete.touch()
    return paths


def _one(coordinate: str, expected: str, target: Path) -> None:
    if target.exists() and _digest(target) == expected:
        return
    for attempt in range(1, TRIES_MAX + 1):
        try:
            _download(coordinate, expected, target)
        except (OSError, RuntimeError):  # of requests and of jgo: the network
            if attempt == TRIES_MAX:
                raise
        else:
            return


def _download(coordinate: str, expected: str, target: Path) -> None:
    from jgo.maven import MavenContext

    group, artifact, version = coordinate.split(":")
    drafts = target.parent / f".{target.name}.{os.getpid()}"
    context = MavenContext(repo_cache=drafts, timeout=30)
    found: Path = context.project(group, artifact).at_version(version).artifact().resolve()
    digest = _digest(found)
    if digest != expected:
        found.unlink()
        raise JarRefused(coordinate, expected, digest)
    found.replace(target)
    for folder in found.parents:
        if folder == target.parent:
            break
        for rest in folder.iterdir():
            rest.unlink()
        folder.rmdir()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
