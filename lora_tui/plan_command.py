"""`lora-tui plan`: what a plan would run, and what is wrong with it. Trains nothing, starts nothing."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core import console
from core.errors import ExitCode, PlanError, UserError
from core.manifests.hashing import HashCache, UnsavedHashes
from core.manifests.sets import split_of
from core.plan.candidates import planned_candidates
from core.plan.fits import in_rows
from core.plan.identity import run_identity
from core.plan.rows import (
    EXPERIMENT,
    NEXT_DRAW,
    all_rows,
    expand,
    in_words,
    interval_steps,
    matches,
    short,
    unknown_ids,
)
from core.plan.schema import DataSettings, Plan, Row, RunSettings, TrainSettings
from core.queue.forecast import forecast_bytes, on_cpu, unfit
from core.queue.run_status import newest_first
from core.queue.search import drawn_by, lacking
from core.queue.slurm.checks import check_cluster
from core.runs.adapter_size import AdapterSize, adapter_size, model_folder
from core.runs.memory_forecast import MemoryForecast, memory_forecast
from core.runs.model_check import family_in, spoken_unless_told
from core.runs.paths import RunsFolder
from core.runs.preflight import preflight, seconds_and_clips, selection_seconds
from core.runs.resolve import ResolveLaterError, Resolver
from core.runs.row import duration
from core.runs.state_folder import runs_folder
from core.runs.store import run_state
from core.sanitise import sanitise
from core.scoring.data_health import TAKEN_FROM
from core.system.files import write_text
from core.user_paths import PathError, user_path
from lora_tui.cells import table
from lora_tui.request import add_choice, add_folders, add_plan, load_plan

NOT_STARTED = "not started"
UNDECIDED = "decided later"
COMMIT_LATER = "not started; its hub model's commit is looked up then"
FIRST_DRAWS = 3
"""Draws of [search] that are shown."""
_HEADINGS = (
    "ROW",
    "RUN",
    "STEPS",
    "EACH STEP",
    "LR",
    "METHOD",
    "RANK",
    "TARGET MODULES",
    "LAYERS",
    "TRAINED",
    "MEMORY",
    "STATE",
)


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One row as it is shown."""

    row: Row
    identity: str | None
    """None: the manifests or the model cannot be read, or `adapter_from` waits for results."""
    state: str
    size: AdapterSize | None
    """None: it cannot be told from the model's files, or not yet."""
    memory: MemoryForecast | None
    """Likewise, or the manifests do not tell."""
    disk: int | None
    """Bytes that its run folder will take, about; None likewise."""
    selection: tuple[str, ...] = ()
    """What `data.selection_share` takes out of training, a sentence for each set."""
    step: tuple[float, float] | None = None
    """(seconds of speech, clips) of a step, replay included; likewise."""
    decoded_s: float | None = None
    """Seconds of speech that are decoded to score all candidates on the selection sets; likewise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add_plan(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--emit", choices=("skypilot",), help="print the plan as a task of SkyPilot instead, for `sky launch`"
    )
    parser.add_argument("-o", "--output", type=user_path, metavar="FILE", help="with --emit: write it to FILE")
    add_choice(parser)
    add_folders(parser)


def run(args: argparse.Namespace) -> ExitCode:
    """Rows on stdout, warnings and problems on stderr; with --json all on stdout. 4 if there are problems."""
    if args.emit or args.output:
        return _emit(args)
    problems: list[str] = []
    planned: list[PlannedRow] = []
    plan: Plan | None = None
    draws: list[Row] = []
    remarks: list[str] = []
    try:
        plan = load_plan(args.plan, args.set)
        runs = runs_folder(Path(args.runs), Path(args.state) if args.state else None)
        draws = _draws(plan, runs)
        rows = _selected(plan, args.only, draws)
        planned, problems = plan_rows(plan, rows, runs)
        problems = [*lacking(plan), *problems]
        cluster = check_cluster(plan, runs)
        problems += cluster.problems
        plan = replace(plan, warnings=(*plan.warnings, *filter(None, (cluster.missing, *cluster.warnings))))
        remarks = languages_chosen_by_models(plan, rows)
    except PlanError as error:
        problems = str(error).split("\n")
    if args.json:
        document = _document(str(args.plan), plan, planned, draws, problems)
        console.document({**document, "remarks": remarks}, indent=1)
    else:
        _print_text(plan, planned, draws, problems)
        for remark in remarks:
            console.err(f"remark: {remark}")
    return ExitCode.BAD_USAGE if problems else ExitCode.ACCEPTED


def _emit(args: argparse.Namespace) -> ExitCode:
    """The plan for another engine. UserError: there is something wrong with it, or the file cannot be written."""
    if not args.emit or args.json:
        raise UserError("-o says where --emit writes" if not args.emit else "--emit prints no JSON: leave out --json")
    from lora_tui import skypilot  # seldom asked for

    plan = load_plan(args.plan, args.set)
    runs = runs_folder(Path(args.runs), Path(args.state) if args.state else None)
    rows = _selected(plan, args.only, _draws(plan, runs))
    resolver = _resolver(plan, runs)
    asked, problems = [], dict[str, None]()
    for row in rows:
        absolute = resolver.absolute(row.settings, resolver.contents(row.settings))
        asked.append((row.settings, absolute))
        try:
            with contextlib.suppress(ResolveLaterError):
                resolver.resolve(row.settings)
            # not what this machine lacks
            problems |= dict.fromkeys(preflight(absolute, targets_known=not row.adapter_from))
        except UserError as error:
            problems |= dict.fromkeys(str(error).split("\n"))
    if problems:
        raise PlanError("\n".join(problems))
    options = [*(f"--only={name}" for name in args.only), *(f"--set={value}" for value in args.set)]
    text = skypilot.text(skypilot.task(plan, asked, options))
    if args.output is None:
        console.out(text.rstrip("\n"), multiline=True)
        return ExitCode.ACCEPTED
    try:
        write_text(args.output, text)
    except OSError as error:
        raise UserError(f"-o {args.output}: cannot be written: {error.strerror or error}") from error
    return ExitCode.ACCEPTED


def languages_chosen_by_models(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """A sentence for each model with a vocabulary for each of several languages that speaks one unless it is told."""
    found: dict[str, None] = {}
    for row in rows:
        model = row.settings.model
        try:
            folder = Path(plan.path).absolute().parent / user_path(model.id)
        except PathError:
            continue  # which `plan_rows` says
        folder = folder if folder.is_dir() else model_folder(model)
        facts = family_in(folder) if model.language is None else None
        if facts is not None and (spoken := spoken_unless_told(folder, facts)) is not None:
            found[f"{model.id} speaks {spoken}, as its tokenizer was set up; model.language chooses another"] = None
    return list(found)


def plan_rows(plan: Plan, rows: Sequence[Row], runs: RunsFolder) -> tuple[list[PlannedRow], list[str]]:
    """The rows with their runs as far as they can be told, and what is wrong with manifests and models."""
    resolver = _resolver(plan, runs)
    planned: list[PlannedRow] = []
    problems: dict[str, None] = {}
    refused: dict[str, list[str]] = {}
    cpu = on_cpu()
    first: dict[str, str] = {}
    for row in rows:
        identity, state, unread = None, NOT_STARTED, False
        try:
            identity = resolver.resolve(row.settings).identity
        except ResolveLaterError:
            state = COMMIT_LATER
            same = first.setdefault(provisional(resolver, row), row.key)
            state = state if same == row.key else f"same run as {same}"
        except UserError as error:
            unread = True
            problems.update(dict.fromkeys(str(error).split("\n")))
        if row.adapter_from:
            identity, state = None, UNDECIDED
        elif identity is not None:
            found = newest_first(runs.find_all(identity))
            if identity in first:
                state = f"same run as {first[identity]}"
            elif found:
                state = run_state(found[0]).value.replace("_", " ")
            first.setdefault(identity, row.key)
        begun = identity is not None and state != NOT_STARTED
        for problem in () if unread or begun else _unfit(resolver, row, plan.queue.executor):
            refused.setdefault(problem, []).append(row.key)
        absolute = None if row.adapter_from else resolver.absolute(row.settings, resolver.contents(row.settings))
        size = None if absolute is None else adapter_size(absolute)
        step = None if absolute is None else seconds_and_clips(absolute)
        memory = None if absolute is None else memory_forecast(absolute, on_cpu=cpu)
        disk = None if absolute is None else forecast_bytes(absolute)
        decoded_s = None if absolute is None else _decoded_s(absolute)
        selection: tuple[str, ...] = ()
        if not unread:
            selection = tuple(_selection_sets(resolver.absolute(row.settings, resolver.contents(row.settings)).data))
        planned.append(PlannedRow(row, identity, state, size, memory, disk, selection, step, decoded_s))
    return planned, [*problems, *in_rows(refused, len(rows))]


def _decoded_s(settings: RunSettings) -> float | None:
    """What all candidates of a run are scored on, in seconds; None: none, or the manifests do not tell."""
    made = len(planned_candidates(settings.train))
    each = selection_seconds(settings.data) if made else None
    return None if each is None else made * each


def _resolver(plan: Plan, runs: RunsFolder) -> Resolver:
    """What reads the plan's manifests and models, and keeps their hashes where there are runs already."""
    cache = HashCache(runs.hash_cache) if runs.root.is_dir() else UnsavedHashes(runs.hash_cache)
    return Resolver(plan, cache, _show_progress if sys.stderr.isatty() else None)


def _selection_sets(data: DataSettings) -> Iterator[str]:
    """`data`: with absolute paths. Nothing for manifests that cannot be read, which is told as a problem."""
    if data.selection_share > 0:
        with contextlib.suppress(UserError, OSError):
            split = split_of(data)
            for name in TAKEN_FROM:
                yield f"data.{name}: {split.sentence(name, data.selection_share)}"


def _unfit(resolver: Resolver, row: Row, executor: str) -> list[str]:
    """What the trainer of a row would refuse."""
    absolute = resolver.absolute(row.settings, resolver.contents(row.settings))
    return unfit(absolute, executor, targets_known=not row.adapter_from)


def provisional(resolver: Resolver, row: Row) -> str:
    """Equal for rows that share their run, where the commit of their hub model is not known yet."""
    contents = resolver.contents(row.settings)
    return run_identity(row.settings, {name: item.sha256 or item.written for name, item in contents.items()})


def conditions_in_words(row: Row) -> str:
    """What must be the case before the row runs, and what it takes from others; empty for nothing."""
    parts = []
    if row.after:
        parts.append(f"after {', '.join(row.after)}")
    if row.when is not None:
        parts.append(f"only if {row.when}")
    if row.adapter_from:
        parts.append(f"target modules of the best run of {', '.join(row.adapter_from)}")
    return "; ".join(parts)


def candidates_in_words(train: TrainSettings, decoded_s: float | None) -> str:
    """What a row makes of its intervals, for `decoded_s` seconds of speech to decode; empty for nothing."""
    if not (count := len(planned_candidates(train))):
        return ""
    intervals = len(interval_steps(train.steps, train.eval_every))
    cost = "" if decoded_s is None else f", {duration(decoded_s)} of speech to decode"
    return (
        f"train.interpolate, train.average: {count} candidates are made of {intervals} intervals and scored on the "
        f"selection sets{cost}; the best of all is scored on domain and heldout"
    )


def _selected(plan: Plan, only: Sequence[str], draws: Sequence[Row]) -> list[Row]:
    """The plan's own rows; those that may be drawn if they are asked for."""
    rows = expand(plan)
    if unknown := unknown_ids([*all_rows(plan), *draws], only):
        ids = ", ".join(dict.fromkeys(row.experiment for row in rows))
        raise PlanError("\n".join(f"--only {name}: no such experiment; the plan has {ids}" for name in unknown))
    wanted = [*rows, *(draws if any(name.startswith(EXPERIMENT) for name in only) else ())]
    return [row for row in wanted if not only or matches(row, only)]


def _print_text(
    plan: Plan | None, planned: Sequence[PlannedRow], draws: Sequence[Row], problems: Sequence[str]
) -> None:
    if plan is not None:
        console.out("\n".join(line.rstrip() for line in _text_lines(plan, planned, draws)), multiline=True)
    for warning in plan.warnings if plan is not None else ():
        console.err(f"warning: {warning}")
    for problem in problems:
        console.err(problem)


def _text_lines(plan: Plan, planned: Sequence[PlannedRow], draws: Sequence[Row]) -> list[str]:
    queue = plan.queue
    until = "until one is accepted" if queue.until == "accepted" else "all of them"
    lines = [
        f"{sanitise(plan.path)}: {len(planned)} row{'' if len(planned) == 1 else 's'}, {until}, "
        f"at most {queue.max_runs} runs and {queue.max_hours:g} hours",
        "",
    ]
    lines += table([_HEADINGS, *(_cells(item) for item in planned)])
    lines.append("")
    experiments = {item.row.experiment: item.row for item in planned}
    width = max(map(len, experiments), default=0)
    for name, row in experiments.items():
        lines.append(f"{name:<{width}}  {sanitise(row.title)}")
        if words := conditions_in_words(row):
            lines.append(f"{'':<{width}}  {sanitise(words)}")
    said: dict[str, list[str]] = {}
    for item in planned:
        for sentence in item.selection:
            said.setdefault(sentence, []).append(item.row.key)
        if words := candidates_in_words(item.row.settings.train, item.decoded_s):
            said.setdefault(words, []).append(item.row.key)
    lines += in_rows(said, len(planned))
    lines += _later_lines(plan, draws)
    lines += [f"{e.id}  {sanitise(f'{e.title}  {e.note}').rstrip()}  (history)" for e in plan.history]
    return lines


def _later_lines(plan: Plan, draws: Sequence[Row]) -> list[str]:
    """What comes after the rows: repeats with other seeds, and the search."""
    lines = []
    if seeds := plan.gate.confirm_seeds:
        lines.append(f"an accepted run is repeated with {seeds} other seed{'' if seeds == 1 else 's'}")
    if plan.queue.then == "search" and plan.search is not None:
        how = "a random search" if plan.search.sampler == "random" else "a search by what rows gave (Optuna's TPE)"
        lines.append(f"then, if nothing was accepted, {how} over")
        lines += [f"  {key}: {in_words(wanted)}" for key, wanted in plan.search.ranges.items()]
        random = plan.search.sampler == "random"
        lines += ["which begins with" if random else "which has drawn"] if draws else []
        lines += [f"  {row.key}  {sanitise(row.label)}" for row in (draws[:FIRST_DRAWS] if random else draws)]
    return lines


def _draws(plan: Plan, runs: RunsFolder) -> list[Row]:
    rows = all_rows(plan, drawn_by(runs, plan))
    return [row for row in rows if row.drawn and row.confirms is None and row.key != NEXT_DRAW]


def _cells(item: PlannedRow) -> tuple[str, ...]:
    train, adapter = item.row.settings.train, item.row.settings.adapter
    batch = f"{train.epochs:g} epochs" if train.epochs is not None else f"{train.batch_seconds:g} s"
    if item.step is not None:
        batch = f"{item.step[0]:.3g} s, {item.step[1]:.3g} clips"
    modules = UNDECIDED if item.row.adapter_from else sanitise(" ".join(adapter.target_modules))
    where = "".join(f" {part}" for part in (adapter.sites, adapter.layers) if part is not None)
    size = item.size
    return (
        item.row.key,
        item.identity or "-",
        str(train.steps),
        batch,
        short(train.learning_rate) + (f", B {adapter.lora_plus:g} times" if adapter.lora_plus != 1 else ""),
        adapter.method,
        " ".join((str(adapter.rank), *map(sanitise, adapter.rank_pattern))),
        modules + where,
        "-" if size is None else f"{size.layers} of {size.of}",
        "-" if size is None else f"{size.trained:,}",
        "-" if item.memory is None else f"{item.memory.total / 1e9:.1f} GB",
        item.state,
    )


def _document(
    path: str, plan: Plan | None, planned: Sequence[PlannedRow], draws: Sequence[Row], problems: Sequence[str]
) -> dict[str, Any]:
    return {
        "schema": 1,
        "plan": path,
        "rows": [
            {
                "key": item.row.key,
                "experiment": item.row.experiment,
                "title": item.row.title,
                "label": item.row.label,
                "identity": item.identity,
                "state": item.state,
                "after": item.row.after,
                "when": item.row.when,
                "adapter_from": item.row.adapter_from,
                "selection": item.selection,
                "candidates": len(planned_candidates(item.row.settings.train)),
                "candidates_decode_s": item.decoded_s,
                "step": None if item.step is None else dict(zip(("seconds", "clips"), item.step, strict=True)),
                "memory": None if item.memory is None else asdict(item.memory),
                "disk": item.disk,
                "adapter_size": None if item.size is None else asdict(item.size),
                "settings": asdict(item.row.settings),
            }
            for item in planned
        ],
        "history": [asdict(entry) for entry in plan.history] if plan is not None else [],
        "search": asdict(plan.search) if plan is not None and plan.search is not None else None,
        "draws": [{"key": row.key, "label": row.label} for row in draws],
        "gate": asdict(plan.gate) if plan is not None else None,
        "queue": asdict(plan.queue) if plan is not None else None,
        "warnings": list(plan.warnings) if plan is not None else [],
        "problems": list(problems),
    }


def _show_progress(key: str, done: int, total: int) -> None:
    """Hashing audio for the first time takes a while."""
    console.progress(f"reading the {key} manifest's audio: {done} of {total}" if done < total else "")
