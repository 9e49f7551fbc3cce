"""The text of a new plan, each key with its comment from the schema, and of a new experiment in one. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import tomli

from core.errors import PlanError
from core.plan.families import FamilyFacts
from core.plan.fits import clip_count, seconds_per_step
from core.plan.read import value_of
from core.plan.rows import complete
from core.plan.schema import DEFAULT_EPOCHS, HIGH_LEARNING_RATE, Plan, Row, TrainSettings
from core.plan.validate import SECTIONS, key_name, keys_of, leaves, parts_of, tables_of
from core.scoring.units import Unit

# What a new plan begins with for a model of some family, each value with its reason

WINDOWS = 16
"""Clips of a family with windows that a batch begins with: 480 s of encoder input."""


PUBLISHED = {
    "whisper": "PEFT's own example trains LoRA on Whisper large-v2 at 1e-3",
    "moonshine": "Useful Sensors' recipe for LoRA on Moonshine has 1e-3",
    "moonshine_streaming": "Useful Sensors' recipe for LoRA on Moonshine has 1e-3",
    "ctc": "Hugging Face trains adapters of MMS at 1e-3 and has LoRA on Parakeet-CTC at 5e-5",
    "parakeet_tdt": "NeMo trains adapters of its conformers at 1e-3",
    "canary": "NeMo trains adapters of its conformers at 1e-3",
    "qwen3_asr": "ms-swift's example trains LoRA on Qwen2-Audio at 1e-4",
}
"""By family: a learning rate that others published for adapters, as far as a source is known.

Sources: huggingface/peft `examples/int8_training/peft_bnb_whisper_large_v2_training.ipynb`; moonshine-voice 0.1.5;
huggingface.co/blog/mms_adapters; Deep-unlearning/Finetune-Parakeet `train_lora.py`; NVIDIA/NeMo
`examples/asr/conf/asr_adapters/asr_adaptation.yaml`; modelscope/ms-swift `examples/train/multimodal/audio.sh`. They
report what was gained on one domain, and not what was forgotten: none is a reason to begin at or above
HIGH_LEARNING_RATE.
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value for a key, and why it is that."""

    key: str
    value: Any
    why: str


def family_defaults(
    facts: FamilyFacts,
    languages: Collection[str],
    max_seconds: float,
    train_s: Sequence[float],
    steps: int,
    epochs: float,
    replay_s: Sequence[float] = (),
) -> list[Chosen]:
    """Values that fit the family, by dotted key.

    `languages`: those that the model can be told; `max_seconds`: the longest clip that it hears; `train_s`, `replay_s`:
    seconds of the clips, those for training gone through `epochs` times in `steps`.
    """
    rate, published = TrainSettings().learning_rate, PUBLISHED.get(facts.name)
    found = [
        Chosen("data.max_seconds", max_seconds, "The model hears no longer clip in one piece."),
        Chosen(
            "train.learning_rate",
            rate,
            f"A cautious begin, not a measured optimum: from {HIGH_LEARNING_RATE:g} on, runs have forgotten ordinary "
            f"speech{f'. {published}' if published else ''}.",
        ),
    ]
    if facts.language == "required" and not languages:
        why = "An English model that writes numbers in digits and short forms: no spelling of them counts as an error."
        found.append(Chosen("data.normaliser", "whisper_english", why))
    if facts.decoder is not None and facts.default_sites != "both":
        found.append(
            Chosen(
                "adapter.sites",
                facts.default_sites,
                "The other part has heard far more speech than an adapter could show it."
                if facts.default_sites == "decoder"
                else "The other part knows words only; sounds are learnt here.",
            )
        )
    if facts.windowed:
        every = f"Each clip costs the encoder {max_seconds:g} s, whatever its length"
        found.append(Chosen("train.eval_batch_seconds", WINDOWS * max_seconds, f"{every}: this is {WINDOWS} clips."))
        streams = _clips_of_a_step(train_s, replay_s, steps, epochs)
        parts = 1
        while sum(math.ceil(clips / parts) for clips in streams) > max(WINDOWS, len(streams)):
            parts += 1
        if parts > 1:
            clips = math.ceil(sum(streams))
            what = f"a step has {clips} clips, so that a micro-batch has at most {WINDOWS}."
            found.append(Chosen("train.accumulation", parts, f"{every}: {what}"))
    return found


def _clips_of_a_step(
    train_s: Sequence[float], replay_s: Sequence[float], steps: int, epochs: float
) -> tuple[float, ...]:
    """How many clips of training and, where there is any, of replay speech a step has on average."""
    train = len(train_s) * epochs / steps
    if not replay_s:
        return (train,)
    share = TrainSettings().replay_share
    each = seconds_per_step(math.fsum(train_s), steps, epochs, None, share) * share / (1.0 - share)
    return train, clip_count(replay_s, each * steps) / steps


# The text of a new plan

_COMMENT_COLUMN = 44
_INTERVALS = 10
"""Of a run of few steps."""
_TITLES = {
    "model": "",
    "data": "manifests: JSON Lines with audio_filepath and text",
    "train": "one step is one optimiser update",
    "adapter": "",
    "gate": "the verdict; error rates in percentage points, absolute",
    "queue": "",
}
_WRITTEN = {
    "train": ("steps", "epochs", "eval_every", "learning_rate", "replay_share", "seed", "threads"),
    "adapter": ("method", "rank", "alpha"),
    "gate": ("domain_gain", "heldout_regression"),
    "queue": ("until", "max_runs", "max_hours"),
}
"""Keys that stand in the plan; the others are there as comments, with their defaults."""

_HEAD = """\
# A plan for lora-tui. `lora-tui plan` shows what it comes to and trains nothing; `lora-tui --headless --gate`
# runs it. Paths are relative to this file. Keys in comments show the defaults.
"""

_SEARCH = """
# [search]                                  # queue.then = "search": rows drawn until one is accepted
# seed = 0
# sampler = "random"                        # or "tpe": by what rows gave, through Optuna (docs/queue.md)
# train.learning_rate = { log_uniform = [2e-5, 1.5e-4] }       # or uniform
# adapter.rank = [8, 16, 32]                # one of these
"""

_EXPERIMENTS = """
# Experiments run in this order. Each may override train.*, adapter.* and data.*; `sweep` runs a row for each
# value; `after` waits for other experiments; `when` is a condition on their results; `adapter_from` takes
# target_modules from the best run among them.

[[experiment]]
id = "2.1"
title = "DoRA stability run"

[[experiment]]
id = "2.1-lora"
title = "LoRA control of 2.1"
adapter.method = "lora"
"""

_ARCHITECTURE = """
# Only if 2.1 is stable but slow (not accepted, domain error rate still falling), or broke the heldout guardrail.
[[experiment]]
id = "2.2"
title = "Architecture"
after = "2.1"
when = "(stable and not accepted and falling) or guardrail_broken"
sweep."adapter.target_modules" = [
{choices}
]
"""

_LEARNING_RATE = """
[[experiment]]
id = "3.1"
title = "Learning rate on the better architecture so far"
after = ["2.1", "2.2"]
adapter_from = ["2.1", "2.2"]
sweep."train.learning_rate" = [5e-5, 1e-4, 1.5e-4]
"""

_LEARNING_RATE_ONLY = """
[[experiment]]
id = "3.1"
title = "Learning rate"
after = "2.1"
sweep."train.learning_rate" = [5e-5, 1e-4, 1.5e-4]
"""


def plan_text(
    model: str,
    manifests: Mapping[str, str],
    attention: Sequence[str],
    feed_forward: Sequence[str],
    steps: int = TrainSettings().steps,
    epochs: float = DEFAULT_EPOCHS,
    unit: Unit = Unit.WORD,
    chosen: Sequence[Chosen] = (),
) -> str:
    """A plan with the phases of the shipped one, of so many steps and passes over the training speech.

    `manifests`: paths by key (train, domain, heldout, and replay where there is one), and the normaliser where one was
    chosen. `attention` and `feed_forward`: names of the model's linear layers. `unit`: what error rates count.
    `chosen`: values that fit the model; their reasons stand above them.
    """
    values: dict[str, dict[str, Any]] = {
        "model": {"id": model},
        "data": dict(manifests),
        "adapter": {"target_modules": tuple(attention)},
    }
    for section, keys in _WRITTEN.items():
        defaults = {f.name: f.default for f in fields(SECTIONS[section])}
        values.setdefault(section, {}).update({key: defaults[key] for key in keys})
    every = min(values["train"]["eval_every"], max(1, steps // _INTERVALS))
    values["train"] |= {"steps": steps, "epochs": epochs, "eval_every": every}
    if unit is not Unit.WORD:
        values["gate"]["unit"] = unit.value
    if "replay" not in manifests:
        del values["train"]["replay_share"]
    reasons: dict[str, str] = {}
    for one in chosen:
        section, _, name = one.key.partition(".")
        if name not in manifests:
            values[section][name] = one.value
            reasons[one.key] = one.why
    sections = "".join(_section_text(name, values.get(name, {}), reasons) for name in SECTIONS)
    return f"{_HEAD}{sections}{_SEARCH}{_EXPERIMENTS}{_later_experiments(attention, feed_forward)}"


def _later_experiments(attention: Sequence[str], feed_forward: Sequence[str]) -> str:
    narrow = [name for name in attention if name[:1] in ("q", "v")]
    choices = [choice for choice in (narrow, list(attention), [*attention, *feed_forward]) if choice]
    different = [choice for position, choice in enumerate(choices) if choice not in choices[:position]]
    if len(different) < 2:
        return _LEARNING_RATE_ONLY
    lines = "\n".join(f"  {toml_value(choice)}," for choice in different)
    return _ARCHITECTURE.format(choices=lines) + _LEARNING_RATE


def _section_text(section: str, values: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    title = _TITLES[section]
    lines = ["", _with_comment(f"[{section}]", title) if title else f"[{section}]"]
    for name, (spec, _) in keys_of(section).items():
        if spec.metadata.get("choices") == (None,) or "doc" not in spec.metadata:
            continue  # not available in this version, or a table of its own
        rules = spec.metadata
        unit = f", {rules['unit']}" if rules.get("unit") == "s" else ""
        choices = [choice for choice in rules.get("choices", ()) if choice != spec.default]
        other = f" (or {', '.join(toml_value(choice) for choice in choices)})" if choices else ""
        comment = f"{rules['doc']}{unit}{other}"
        if why := reasons.get(f"{section}.{name}"):
            lines.append(f"# {why}")
        if name in values:
            lines.append(_with_comment(f"{name} = {toml_value(values[name])}", comment))
        elif spec.default is None:
            lines.append(_with_comment(f"# {name} = …", comment))
        else:
            lines.append(_with_comment(f"# {name} = {toml_value(spec.default)}", comment))
    return "\n".join(lines) + "\n"


def _with_comment(text: str, comment: str) -> str:
    if len(text) > _COMMENT_COLUMN - 2:
        return f"# {comment}\n{text}"
    return f"{text:<{_COMMENT_COLUMN - 2}}  # {comment}"


def toml_value(value: Any) -> str:
    """A value as TOML. JSON strings are TOML strings, but for DEL, which TOML wants escaped."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# A new `[[experiment]]` in the text of a plan. Every byte that was there stays: comments, order, spacing

FORM_SECTIONS = ("train", "adapter")
HEAD_KEYS = ("id", "title", "after", "when", "adapter_from")
_LISTS = ("after", "adapter_from")
_HEADER = re.compile(r"^\s*\[")
_EXPERIMENT = re.compile(r"^\s*\[\[\s*experiment\s*\]\]")
_BLANK = re.compile(r"^\s*(#|$)")


def form_of(plan: Plan, row: Row) -> dict[str, str]:
    """Dotted key → text, for a form in which a copy of `row` is edited. What a sweep chose is a plain value in it."""
    taken = {experiment.id for experiment in plan.experiments}
    name = next(f"{row.experiment}-{n}" for n in range(2, len(taken) + 3) if f"{row.experiment}-{n}" not in taken)
    form = {"id": name, "title": row.title, "after": ", ".join(row.after), "when": row.when or ""}
    form["adapter_from"] = ", ".join(row.adapter_from)
    for section in FORM_SECTIONS:
        settings = getattr(row.settings, section)
        for name in keys_of(section):
            form[f"{section}.{name}"] = _shown(_of(settings, name))
    return form


def entry_of(plan: Plan, form: Mapping[str, str]) -> dict[str, Any]:
    """The entry that a filled-in form means: nested tables, with the settings that differ from the plan's defaults.

    The defaults are taken as a row gets them, with what follows from other keys filled in: the form shows them so.
    """
    filled = complete(plan.defaults)
    entry: dict[str, Any] = {"id": form["id"].strip()}
    for key in HEAD_KEYS[1:]:
        if text := form.get(key, "").strip():
            entry[key] = [part.strip() for part in text.split(",") if part.strip()] if key in _LISTS else text
    for section in FORM_SECTIONS:
        defaults = getattr(filled, section)
        for name in keys_of(section):
            text = form.get(f"{section}.{name}", "").strip()
            if not text or (name == "target_modules" and "adapter_from" in entry):
                continue
            value = _value(section, name, text)
            if _comparable(value) != _comparable(_of(defaults, name)):
                *tables, last = section, *parts_of(section, name)
                table = entry
                for one in tables:
                    table = table.setdefault(one, {})
                table[last] = value
    return entry


def with_experiment(text: str, entry: Mapping[str, Any]) -> str:
    """`text` with the entry behind its last `[[experiment]]`. PlanError: `text` leaves no place."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = newline.join(experiment_lines(entry))
    for place in _places(text):
        head, tail = text[:place], text[place:]
        gap = "" if not head or head.endswith(("\n\n", "\r\n\r\n")) else newline
        ending = "" if not head or head.endswith("\n") else newline
        candidate = f"{head}{ending}{gap}{block}{newline}{newline if tail else ''}{tail}"
        if _adds(text, candidate, entry):
            return candidate
    raise PlanError("the plan's text leaves no place for another [[experiment]]: add it in an editor")


def experiment_lines(entry: Mapping[str, Any]) -> list[str]:
    """The entry as TOML."""
    lines = ["[[experiment]]"]
    for key, value in entry.items():
        inner = leaves(value, (key,), tables_of(key)) if isinstance(value, Mapping) else [((key,), value)]
        lines += [f"{key_name(path)} = {toml_value(one)}" for path, one in inner]
    return lines


def _places(text: str) -> Iterator[int]:
    """Where a new entry may go, the best first: behind the last experiment, before what is said of the next table."""
    lines = text.splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines) + 1)]
    last = max((i for i, line in enumerate(lines) if _EXPERIMENT.match(line)), default=None)
    if last is not None:
        after = next((i for i in range(last + 1, len(lines)) if _HEADER.match(lines[i])), None)
        if after is not None:
            while _BLANK.match(lines[after - 1]):
                after -= 1
            yield starts[after]
    yield len(text)


def _adds(before: str, after: str, entry: Mapping[str, Any]) -> bool:
    """Whether the one difference is the entry, at the end of the experiments."""
    try:
        old, new = (tomli.loads(text.removeprefix("\ufeff")) for text in (before, after))
    except tomli.TOMLDecodeError:
        return False
    experiments = old.get("experiment", [])
    if not isinstance(experiments, list):
        return False
    return bool(new == old | {"experiment": [*experiments, dict(entry)]})


def _of(settings: Any, key: str) -> Any:
    """The value of a key of a section's settings, which may be in a table in it."""
    return reduce(getattr, key.split("."), settings)


def _value(section: str, name: str, text: str) -> Any:
    _, types = keys_of(section)[name]
    if types == (str,):
        return text
    if types[0] in (tuple[str, ...], tuple[float, ...]) and not text.startswith("["):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return parts if types == (tuple[str, ...],) else [value_of(part) for part in parts]
    return value_of(text)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else toml_value(value)


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
