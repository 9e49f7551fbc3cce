"""Whether a run was made of what a plan names now: the model and each manifest compared on their own. Pure.

A run answers for a row of a plan only if its settings and its contents are the row's. What can be hashed on this
machine must be what the run recorded. Of a manifest whose audio is not here the lines are compared, and what cannot be
compared at all is named, so that whoever reads the verdict knows what it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

MODEL = "model"
NOISE = "noise"
"""The recordings of `train.augment.noise`."""
LANGUAGES = "languages"
"""What a model is told of the clips of all sets, where that is not the plan's `model.language` for each of them."""
HUB = "hub:"
"""Begins what stands for a model of the hub among the hashes: `hub:ID@COMMIT`."""


class Depth(IntEnum):
    """How far a content was compared with what a run recorded."""

    NOTHING = 0
    TEXTS = 1
    """The lines of a manifest, or at least their ids and texts; no audio."""
    WHOLE = 2


@dataclass(frozen=True, slots=True)
class Content:
    """A manifest, or the model, that a plan names, as far as it can be read here."""

    written: str
    """The absolute path, or the hub id, for messages."""
    sha256: str | None = None
    """Of the whole content; None where it cannot be had."""
    lines: str | None = None
    """Of a manifest: the hash of its lines without the audio (core.manifests.hashing)."""
    references: str | None = None
    """Of a manifest whose audio is not all here: the hash of its ids and texts alone."""
    hub: str | None = None
    """The hub id of a model whose commit is not known here."""
    problem: str = ""
    """Why there is no `sha256`."""
    languages: bool = False
    """Whether lines of a manifest name what is spoken."""
    broken: bool = False
    """Whether the file is here and is no manifest that a run could be made of."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One content that is the run's, as far as it could be compared."""

    name: str
    depth: Depth
    summary: str
    """What was compared and why no more; empty where all was."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of all that a row names with all that a run recorded."""

    compared: tuple[Compared, ...]
    differing: tuple[str, ...]
    """One sentence for each content that is another one; empty: the run is made of what the row names."""

    @property
    def gaps(self) -> tuple[str, ...]:
        """One sentence for each content that was not compared whole."""
        return tuple(item.summary for item in self.compared if item.depth is not Depth.WHOLE)

    def short_of(self, required: Depth) -> tuple[str, ...]:
        """The sentences for contents that were compared less than `required`. Of a model there are no texts."""
        return tuple(
            item.summary
            for item in self.compared
            if item.depth < (Depth.WHOLE if item.name == MODEL and required is not Depth.NOTHING else required)
        )


def compare(
    contents: Mapping[str, Content],
    hashes: Mapping[str, str],
    lines: Mapping[str, str],
    references: Callable[[str], str | None],
) -> Comparison:
    """Each content of a row with what the run says it was made of. Both must name the same manifests.

    `hashes`: of whole contents, by `model` and the names of the manifests; `lines`: of each manifest's lines, which
    older runs did not record; `references`: of the ids and texts of an evaluation set, by the base model's score on
    it, None where that is not to be had.
    """
    if any(content.sha256 is None for name, content in contents.items() if name != LANGUAGES):
        # not all can be told here; lines that are the run's have its languages
        contents = {name: content for name, content in contents.items() if name != LANGUAGES}
        hashes = {name: digest for name, digest in hashes.items() if name != LANGUAGES}
    compared: list[Compared] = []
    differing = [
        f"it was made with {_key(name)}, of which the plan has none" for name in sorted(hashes.keys() - contents.keys())
    ]
    for name, content in contents.items():
        if name not in hashes:
            differing.append(f"it was made without {_key(name)}, which is {content.written} in the plan")
            continue
        found = _compare(name, content, hashes[name], lines.get(name), references)
        if isinstance(found, Compared):
            compared.append(found)
        else:
            differing.append(found)
    return Comparison(tuple(compared), tuple(differing))


def _compare(
    name: str, content: Content, digest: str, lines: str | None, references: Callable[[str], str | None]
) -> Compared | str:
    """How far the content is the run's, or the sentence that says that it is another one."""
    key = _key(name)
    if content.sha256 == digest:
        return Compared(name, Depth.WHOLE, "")
    # A folder's hash and a hub id say nothing about each other; two hub ids do.
    hub = content.hub is not None and digest.startswith(HUB) and not digest.startswith(f"{HUB}{content.hub}@")
    if content.sha256 is not None or hub:
        return f"it was made with another {key} than {content.written}"
    why = _first_line(content.problem)
    if content.broken:
        return f"{content.written} is not the {key} that it was made with: {why}"
    for what, here, theirs in (
        ("the lines", content.lines, lines),
        ("the ids and texts", content.references, references(name) if lines is None else None),
    ):
        if here is None or theirs is None:
            continue
        if here != theirs:
            return f"{what} of {content.written} are not those of the {key} that it was made with"
        return Compared(name, Depth.TEXTS, f"{key}: only {what} were compared, not the audio: {why}")
    return Compared(name, Depth.NOTHING, f"{key}: not compared with what the run was made with: {why}")


def _key(name: str) -> str:
    named = {MODEL: MODEL, NOISE: "train.augment.noise", LANGUAGES: "language of the clips"}
    return named.get(name, f"data.{name}")


def _first_line(problem: str) -> str:
    first, *more = problem.splitlines() or ["it cannot be read here"]
    return f"{first} (and {len(more)} more problems)" if more else first
