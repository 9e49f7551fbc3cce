"""Whether a run is made of what a plan names, where not all of that can be read here."""

from __future__ import annotations

from collections.abc import Mapping

from core.runs.contents import LANGUAGES, MODEL, Comparison, Content, Depth, compare

HASHES = {MODEL: "m", "train": "t", "domain": "d", "heldout": "h"}
LINES = {name: f"lines of {name}" for name in ("train", "domain", "heldout")}


def contents(**hashes: str | None) -> dict[str, Content]:
    """As a plan names them here; None: what has no audio here."""
    return {name: Content(name, digest, LINES.get(name)) for name, digest in {**HASHES, **hashes}.items()}


def compared(here: Mapping[str, Content], recorded: Mapping[str, str]) -> Comparison:
    return compare(here, recorded, LINES, lambda name: None)


def test_other_languages_of_clips_are_another_run() -> None:
    told = {LANGUAGES: "de, en"}
    assert compared(contents(**told), HASHES | told).differing == ()
    [other] = compared(contents(**told), HASHES | {LANGUAGES: "de, fr"}).differing
    assert other == f"it was made with another language of the clips than {LANGUAGES}"
    [less] = compared(contents(), HASHES | told).differing
    assert less == "it was made with language of the clips, of which the plan has none"


def test_without_the_audio_the_lines_tell_the_languages() -> None:
    found = compared(contents(train=None), HASHES | {LANGUAGES: "de, en"})
    assert found.differing == ()
    assert [item.depth for item in found.compared if item.name == "train"] == [Depth.TEXTS]
