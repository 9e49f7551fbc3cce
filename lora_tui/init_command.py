"""`lora-tui init`: writes a plan for one's own model and manifests.

Asks on stderr and reads stdin; flags answer ahead.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.console import ask, err
from core.errors import ExitCode, ManifestError, UserError
from core.manifests.manifest import joined_words, read_manifest
from core.plan.fits import steps_and_epochs
from core.plan.read import parse_plan
from core.plan.schema import DataSettings, with_keys
from core.plan.template import Chosen, family_defaults, plan_text
from core.runs.model_check import family_in, languages_in, spoken_unless_told
from core.runs.model_files import LinearLayers, is_hub_id, linear_layers, model_shapes
from core.runs.preflight import hears, usable_clips
from core.scoring.text import NAMES
from core.scoring.units import Unit
from core.system.files import write_text
from core.user_paths import user_path
from lora_tui.request import DEFAULT_PLAN


@dataclass(frozen=True, slots=True)
class Question:
    """One thing the plan must know."""

    key: str
    text: str
    optional: bool = False


QUESTIONS = (
    Question("model", "The base model: a folder in hub format, or a hub id"),
    Question("train", "Manifest of the domain's training speech"),
    Question("domain", "Manifest of the domain evaluation set, which is to get better"),
    Question("heldout", "Manifest of ordinary speech that must not get worse"),
    Question("replay", "Manifest of general speech to mix in against forgetting (Enter: none)", optional=True),
    Question(
        "normaliser",
        f"Which differences of spelling count no error: {', '.join(NAMES)} (Enter: not chosen yet; docs/data.md)",
        optional=True,
    ),
)
MANIFESTS = ("train", "domain", "heldout", "replay")

_OF_ITS_FAMILY = LinearLayers(("attention",), ("mlp",))
"""What any family calls so."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    for question in QUESTIONS:
        kind = {"model": "MODEL", "normaliser": "NAME"}.get(question.key, "MANIFEST")
        parser.add_argument(f"--{question.key}", metavar=kind, help=_lower(question.text.partition(" (Enter")[0]))
    parser.add_argument("--output", default=DEFAULT_PLAN, metavar="FILE", help="the plan; default: %(default)s")
    parser.add_argument("--yes", action="store_true", help="ask nothing; what is optional and not given is left out")
    parser.add_argument("--force", action="store_true", help="replace a plan that exists")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def run(args: argparse.Namespace) -> ExitCode:
    """Ask for what the flags leave open, check it, write the plan. After a UserError nothing is written."""
    output = user_path(args.output)
    if output.exists() and not args.force:
        raise UserError(f"{output}: exists already: name another file with --output, or replace it with --force")
    if not output.absolute().parent.is_dir():
        raise UserError(f"{output.parent}: no such folder for the plan: create it first")
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        given = getattr(args, question.key)
        if given is not None:
            check_answer(question.key, given, answers)
            answers[question.key] = given
        elif not args.yes:
            answer = _ask(question, answers)
            if answer:
                answers[question.key] = answer
        elif not question.optional:
            raise UserError(f"--{question.key} is missing: with --yes nothing is asked")
    text = new_plan(answers, output)
    try:
        write_text(output, text)
    except OSError as error:
        raise UserError(f"{output}: the plan cannot be written: {error.strerror}") from error
    if parse_plan(text, str(output)).gate.unit != Unit.WORD:
        _say("Texts without spaces between words: errors are counted in characters (gate.unit).")
    facts = family_in(model := user_path(answers["model"]))
    if facts is not None and facts.language == "required" and languages_in(model, facts):
        _say(
            f"This model must be told what is spoken: set language in [model] of {output}, or name it in the manifests."
        )
    if facts is not None and (spoken := spoken_unless_told(model, facts)) is not None:
        _say(f"This model speaks {spoken} unless it is told another language: set language in [model] of {output}.")
    _say(f"{output} is written. `lora-tui plan {output}` shows what it comes to.")
    return ExitCode.ACCEPTED


def new_plan(answers: Mapping[str, str], output: Path) -> str:
    """The plan's text. Paths that were given relative to the working folder become relative to the plan."""
    folder = output.absolute().parent
    model = answers["model"]
    layers = layers_of(model)
    longest = hears(user_path(model))
    train, replay = (
        [
            clip.seconds
            for clip in usable_clips(name, with_keys(DataSettings(), {name: str(user_path(answers[name]))}), longest)[0]
        ]
        if name in answers
        else []
        for name in ("train", "replay")
    )
    steps, epochs = steps_and_epochs(train, replay)
    text = plan_text(
        _from_plan(model, folder) if user_path(model).is_dir() else model,
        {key: _from_plan(answers[key], folder) for key in MANIFESTS if key in answers}
        | ({"normaliser": answers["normaliser"]} if "normaliser" in answers else {}),
        layers.attention,
        layers.feed_forward,
        steps,
        epochs,
        _unit(answers),
        _family_defaults(user_path(model), longest, (train, replay), steps, epochs),
    )
    parse_plan(text, str(output))  # a plan that could not be read again must not be written
    return text


def _family_defaults(
    folder: Path, longest: float, clips: tuple[Sequence[float], Sequence[float]], steps: int, epochs: float
) -> list[Chosen]:
    """What fits the model in a folder; nothing for one that is not here or of no family.

    `clips`: seconds of those for training, and of those for replay.
    """
    facts = family_in(folder)
    if facts is None:
        return []
    train_s, replay_s = clips
    return family_defaults(facts, languages_in(folder, facts), longest, train_s, steps, epochs, replay_s)


def _unit(answers: Mapping[str, str]) -> Unit:
    """Characters for sets whose texts have no spaces between words, of which a word error rate says nothing."""
    unparted = any(joined_words(read_manifest(user_path(answers[name]))) for name in ("domain", "heldout"))
    return Unit.CHARACTER if unparted else Unit.WORD


def check_answer(key: str, answer: str, answers: Mapping[str, str]) -> str:
    """A sentence on what the answer is. Raises UserError when it cannot be used."""
    if not answer.strip():
        raise UserError(f"--{key}: is empty: name a file, or leave the flag out")
    try:
        answer.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"--{key}: {answer!r} is not valid UTF-8, which a plan must be: rename the file") from error
    if key == "normaliser":
        if answer not in NAMES:
            raise UserError(f"--{key}: {answer}: no such text normaliser: use one of {', '.join(NAMES)}")
        return "error rates are counted so"
    path = user_path(answer)
    if key == "model":
        return _check_model(answer, path)
    manifest = read_manifest(path)
    for other in MANIFESTS:
        if other in answers and user_path(answers[other]).samefile(path):
            raise ManifestError(f"{answer}: is the {other} manifest already: {key} must be other speech")
    return f"{len(manifest.utterances)} utterances"


def _check_model(answer: str, path: Path) -> str:
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{answer}: no config.json: name a folder in hub format")
        return f"target modules {', '.join(layers_of(answer).attention)}"
    if not is_hub_id(answer) or path.parts[0] in (".", "..", "~") or path.exists():
        raise UserError(f"{answer}: no such model folder: name a folder in hub format, or a hub id")
    if Path(path.parts[0]).is_dir():
        raise UserError(f"{answer}: no such model folder: {path.parts[0]} has no {'/'.join(path.parts[1:])}")
    return "a hub id; it is loaded when the first run starts"


def layers_of(model: str) -> LinearLayers:
    """The linear layers of a model, from its files, by the names that they have when it is loaded.

    In words where there are no files, and where adapters go to one site alone, whose layers the other's may not share.
    """
    folder = user_path(model)
    facts = family_in(folder)
    if facts is None:
        found = linear_layers(folder)
    elif facts.default_sites == "both":
        there = {facts.module(name).rpartition(".")[2] for name in model_shapes(folder).linear}
        found = LinearLayers(
            *(tuple(name for name in names if name in there) for names in (facts.attention, facts.mlp))
        )
    else:
        return _OF_ITS_FAMILY
    return found if found.attention else _OF_ITS_FAMILY


def _from_plan(written: str, folder: Path) -> str:
    path = user_path(written)
    return str(path) if path.is_absolute() else os.path.relpath(path.absolute(), folder)


def _ask(question: Question, answers: Mapping[str, str]) -> str:
    """The answer on stdin; asked again until it can be used. Empty only for optional questions."""
    while True:
        _say(f"{question.text}: ", end="")
        line = sys.stdin.readline()
        if not line and not question.optional:
            raise UserError(f"the input ended before all was answered: give --{question.key}")
        answer = line.strip()
        if not answer and question.optional:
            return ""
        try:
            _say(f"  {check_answer(question.key, answer, answers)}")
        except UserError as error:
            for problem in str(error).split("\n"):
                _say(f"  {problem}")
            continue
        return answer


def _say(text: str, end: str = "\n") -> None:
    (err if end else ask)(text)
