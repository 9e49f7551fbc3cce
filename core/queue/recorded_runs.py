"""The runs of a folder by what they recorded, and which of them answer for a row whose data or model is not here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from core.manifests.hashing import references_sha256
from core.plan.identity import run_identity
from core.plan.schema import RunSettings
from core.runs.contents import Comparison, Content, compare
from core.runs.documents import read_config
from core.runs.paths import RunPaths, RunsFolder
from core.runs.store import read_run
from core.system.files import SCORES_BYTES, read_json

_EVALUATED = ("domain", "heldout", "selection")


@dataclass(frozen=True, slots=True)
class Match:
    """A run that is a row's as far as that can be told here."""

    run: RunPaths
    identity: str
    hashes: Mapping[str, str]
    comparison: Comparison
    others: tuple[RunPaths, ...] = ()
    """Older runs that are so, too."""


@dataclass(frozen=True)
class RecordedRun:
    """What the `run.json` of one run says, as far as it can be used."""

    run: RunPaths
    experiment: str
    identity: str
    settings: Mapping[str, Any]
    hashes: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)

    def is_of(self, settings: RunSettings) -> bool:
        """Whether these settings, on what the run says it was made of, have the run's identity."""
        identity = run_identity(settings, self.hashes) if self.hashes else ""
        return identity == self.identity and self.run.name.endswith(f"-{identity}")

    def compared(self, settings: RunSettings, contents: Mapping[str, Content]) -> Comparison:
        """The contents of a row with those of the run."""
        # Replay speech of which nothing is taken is no part of a run, whether it is named or not.
        left_out = {"replay"} if settings.train.replay_share == 0 else set()
        named = {name: content for name, content in contents.items() if name not in left_out}
        hashes = {name: digest for name, digest in self.hashes.items() if name not in left_out}
        return compare(named, hashes, self.lines, self._references)

    def _references(self, name: str) -> str | None:
        """Of an evaluation set: from the base model's score on it, for runs that did not record their lines."""
        if name not in _EVALUATED:
            return None
        document, _ = read_json(self.run.evaluation(0, name), SCORES_BYTES)
        try:
            lines = [(str(one["id"]), str(one["reference"])) for one in (document or {})["utterances"]]
        except (KeyError, TypeError):
            return None
        return references_sha256(lines)


class RecordedRuns:
    """Those of one folder. Each `run.json` is read once, when it is first needed."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._known: dict[RunSettings, Match | None] = {}

    @cached_property
    def all(self) -> tuple[RecordedRun, ...]:
        """Every run whose `run.json` can be read."""
        return tuple(run for run in map(recorded_run, self._runs.runs()) if run is not None)

    def match(self, settings: RunSettings, contents: Mapping[str, Content]) -> Match | None:
        """The newest run of these settings that was made of these contents, as far as they can be compared."""
        if settings not in self._known:
            self._known[settings] = self._match(settings, contents)
        return self._known[settings]

    def _match(self, settings: RunSettings, contents: Mapping[str, Content]) -> Match | None:
        alike = [(run, run.compared(settings, contents)) for run in self.all if run.is_of(settings)]
        found = {run.run: (run, comparison) for run, comparison in alike if not comparison.differing}
        if not found:
            return None
        newest, *others = newest_first(found)
        run, comparison = found[newest]
        return Match(newest, run.identity, run.hashes, comparison, tuple(others))


def newest_first(runs: Collection[RunPaths]) -> list[RunPaths]:
    """By the time of their last events, which a copy keeps; the files' own times say when they were copied."""
    if len(runs) < 2:
        return list(runs)
    return sorted(runs, key=lambda run: (-(read_run(run).last_event_time or 0.0), run.name))


def recorded_run(run: RunPaths) -> RecordedRun | None:
    """What the run's `run.json` says; None where it cannot be read."""
    config, _ = read_config(run)
    settings = (config or {}).get("settings")
    if config is None or not isinstance(settings, dict):
        return None
    return RecordedRun(
        run,
        str(config.get("experiment") or ""),
        str(config.get("identity") or ""),
        settings,
        dict(_texts(config.get("hashes"))),
        dict(_texts(config.get("lines"))),
    )


def _texts(value: object) -> Iterable[tuple[str, str]]:
    """The pairs of names and texts in a document; what is none is left out."""
    pairs = value.items() if isinstance(value, dict) else ()
    return ((str(name), text) for name, text in pairs if isinstance(text, str))
