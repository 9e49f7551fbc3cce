"""run.json and result.json: decoded into types before anybody uses them. What is of another type is not used at all.

Both are read as mappings, as they are written: a key is missing, or of its type and in its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import msgspec

from core.plan.rows import too_many_intervals
from core.plan.schema import MOST_NUMBER, AdapterSettings, DataSettings, GateSettings, ModelSettings, TrainSettings
from core.plan.validate import out_of_range, unreadable
from core.runs.events import MOST_SECONDS
from core.runs.paths import RunPaths
from core.scoring.verdict import early_stop_of, thresholds_of
from core.system.files import read_json

Seconds = Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_NUMBER)]


class _Settings(msgspec.Struct):
    model: ModelSettings | None = None
    data: DataSettings | None = None
    train: TrainSettings | None = None
    adapter: AdapterSettings | None = None


class _Provenance(msgspec.Struct):
    code_version: str = ""
    dirty: bool | None = None
    created: Seconds = 0.0
    python: str = ""


class _Run(msgspec.Struct):
    """What the queue writes (`core.queue.work`); runs of older versions may lack keys, or have more."""

    schema: Count = 1
    experiment: str = ""
    title: str = ""
    identity: str = ""
    settings: _Settings = msgspec.field(default_factory=_Settings)
    hashes: dict[str, str] = {}
    lines: dict[str, str] | None = None
    state_folder: str = ""
    plan: str = ""
    gate: GateSettings = GateSettings()
    provenance: _Provenance | None = None


class _Events(msgspec.Struct):
    bytes: Count
    sha256: str


class _Result(msgspec.Struct):
    """What the trainer writes (`core.training.session`)."""

    schema: Count = 1
    outcome: str = ""
    steps_completed: Count = 0
    best_step: Count | None = None
    candidate: str | None = None
    """The name of the best adapter, where that is made of intervals."""
    guardrail_kept: bool | None = None
    adapter_hash: str | None = None
    batch_plan: str = ""
    seconds: Seconds = 0.0
    lines: dict[str, str] | None = None
    files: dict[str, str] | None = None
    events: _Events | None = None


def read_config(paths: RunPaths) -> tuple[dict[str, Any] | None, str | None]:
    """(run.json, None), (None, what is wrong with it), or (None, None) without one. Never raises."""
    document, problem = read_json(paths.config)
    if document is None:
        return None, problem
    wrong = wrong_config(document)
    return (document, None) if wrong is None else (None, f"{paths.config}: {wrong}")


def read_result(paths: RunPaths) -> tuple[dict[str, Any] | None, str | None]:
    """(result.json, None), (None, what is wrong with it), or (None, None) without one. Never raises."""
    document, problem = read_json(paths.result)
    if document is None:
        return None, problem
    _, wrong = _typed(document, _Result)
    return (document, None) if wrong is None else (None, f"{paths.result}: {wrong}")


def wrong_config(document: dict[str, Any]) -> str | None:
    """What is wrong with the content of a run.json; None: nothing."""
    run, wrong = _typed(document, _Run)
    if run is None:
        return wrong
    settings = run.settings
    sections = {name: getattr(settings, name) for name in settings.__struct_fields__} | {"gate": run.gate}
    sections |= {f"gate.slice[{number}]": one for number, one in enumerate(run.gate.slice)}
    for section, values in sections.items():
        if is_dataclass(values) and (wrong := _beyond(section, values)) is not None:
            return wrong
    try:
        thresholds_of(document.get("gate") or {})
        early_stop_of(document.get("gate") or {})
    except (TypeError, ValueError, OverflowError) as error:
        return f"gate: {error}"
    return None


def _typed(document: dict[str, Any], kind: type[Any]) -> tuple[Any, str | None]:
    try:
        return msgspec.convert(document, kind), None
    except (msgspec.MsgspecError, OverflowError, ValueError, TypeError, RecursionError) as error:
        what, _, where = str(error).partition(" - at `$")
        name = where.strip("`.") or "its content"
        return None, f"{name}: {what[:1].lower()}{what[1:]}: restore the file"


def _unread(value: Any, rules: Mapping[str, Any]) -> str | None:
    texts = value if isinstance(value, tuple) else (value,)
    return next((wrong for text in texts if isinstance(text, str) and (wrong := unreadable(text, rules))), None)


def _beyond(section: str, values: Any) -> str | None:  # noqa: PLR0911 - one return a case
    """The first number, or word of a choice, of a table of settings that no plan may have."""
    for one in fields(values):
        value = getattr(values, one.name)
        if isinstance(value, tuple) and len(value) > one.metadata.get("most", len(value)):
            return f"{section}.{one.name}: {len(value)} of them, and no run has so many: restore the file"
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                wrong = out_of_range(number, one.metadata)
                if wrong is not None:
                    return f"{section}.{one.name}: {wrong}: restore the file"
        if is_dataclass(value):
            if (wrong := _beyond(f"{section}.{one.name}", value)) is not None:
                return wrong
        elif isinstance(value, str) and value not in one.metadata.get("choices", (value,)):
            return f"{section}.{one.name}: {value[:40]!r} is none of its choices: restore the file"
        elif "reads" in one.metadata and (wrong := _unread(value, one.metadata)) is not None:
            return f"{section}.{one.name}: {wrong}: restore the file"
    if isinstance(values, TrainSettings):
        return too_many_intervals(values.steps, values.eval_every)
    return None
