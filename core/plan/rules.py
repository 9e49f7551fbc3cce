"""Rules over the rows of a plan: what no single value shows. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, combinations
from typing import Any

from core.plan.lines import KeyPath
from core.plan.rows import EXPERIMENT, experiment_rows, interval_steps, too_many_intervals
from core.plan.schema import (
    HIGH_LEARNING_RATE,
    AdapterSettings,
    Experiment,
    GateSettings,
    QueueSettings,
    RunSettings,
    SearchSpace,
    TrainSettings,
)
from core.plan.targets import FROM_LAYERS
from core.plan.texts import module_rank
from core.plan.validate import Problems
from core.scoring.data_health import JUDGED
from core.scoring.evidence import Thresholds

_WHY_OTHER = {
    "heldout": "what guards against forgetting must be other speech than what is to gain",
    "selection": "intervals are chosen on speech that nothing is judged on; leave the key out to choose on domain",
    "reserve_domain": "the last word is passed on speech that no run has seen",
    "reserve_heldout": "the last word is passed on speech that no run has seen",
    "selection_heldout": "what is chosen must keep the guardrail on speech that nothing else is asked of",
}


def check_batch(keys: Collection[str], path: KeyPath, problems: Problems) -> None:
    """One table, or one experiment, gives `epochs` or `batch_seconds`, not both."""
    if {"train.epochs", "train.batch_seconds"} <= set(keys):
        problems.add(path, "give epochs or batch_seconds, not both: each derives the batch", "train.batch_seconds")


def check_rows(
    defaults: RunSettings,
    written: Collection[str],
    experiments: Mapping[KeyPath, Experiment],
    problems: Problems,
) -> None:
    """Rules over each row's final settings. `written`: the dotted keys that the defaults' tables give."""
    for path, experiment in experiments.items():
        own = {**experiment.overrides, **experiment.sweep}
        check_batch(own, path, problems)
        explicit_share = "train.replay_share" in own or "train.replay_share" in written
        for row in experiment_rows(defaults, experiment):
            train = row.settings.train
            fastest = train.learning_rate * row.settings.adapter.lora_plus
            if fastest >= HIGH_LEARNING_RATE and not train.allow_high_learning_rate:
                problems.add(
                    _given("train.learning_rate", path, problems),
                    f"{rate_in_words(train.learning_rate, row.settings.adapter.lora_plus)} is {HIGH_LEARNING_RATE:g} "
                    "or more, where models forget what they knew; lower it, or set train.allow_high_learning_rate = "
                    "true",
                    "train.learning_rate",
                )
            if train.base_precision != "fp32" and train.precision == "fp32":
                problems.add(
                    _given("train.base_precision", path, problems),
                    f'"{train.base_precision}" goes with steps in bf16: write train.precision = "bf16" or "auto"',
                    "train.base_precision",
                )
            for wrong in unclear_ranks(row.settings.adapter):
                problems.add(_given("adapter.rank_pattern", path, problems), wrong, "adapter.rank_pattern")
            if (many := too_many_intervals(train.steps, train.eval_every)) is not None:
                places = (_given(key, path, problems) for key in ("train.eval_every", "train.steps"))
                problems.add(next((place for place in places if place != path), path), many, "train.eval_every")
            unclear = (unclear_candidates(row.settings), unclear_pulls(row.settings), unclear_devices(train))
            for key, what in chain.from_iterable(unclear):
                problems.add(_given(f"train.{key}", path, problems), what, f"train.{key}")
            augment = train.augment
            if augment.noise is not None and augment.snr_low > augment.snr_high:
                problems.add(
                    _given("train.augment.snr_high", path, problems),
                    f"{augment.snr_high:g} dB is below train.augment.snr_low = {augment.snr_low:g} dB: the quietest "
                    "noise has the higher ratio",
                    "train.augment.snr_high",
                )
            for key, what in same_set({k: _path(getattr(row.settings.data, k)) for k in JUDGED}):
                problems.add(_given(f"data.{key}", path, problems), what, f"data.{key}")
            for key, what in unclear_selection(row.settings):
                problems.add(_given(f"data.{key}", path, problems), what, f"data.{key}")
            if row.settings.data.replay is None and explicit_share and _share(defaults, experiment) > 0:
                problems.add(
                    _given("train.replay_share", path, problems),
                    "there is no replay speech to take: give data.replay, or set train.replay_share = 0",
                    "train.replay_share",
                )


def unclear_selection(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) where the keys of the selection sets, or of the reserve, do not go together."""
    data = settings.data
    if (data.reserve_domain is None) != (data.reserve_heldout is None):
        missing, given = ("reserve_heldout", "reserve_domain")[:: 1 if data.reserve_domain is not None else -1]
        yield given, f"goes with data.{missing}: gain and guardrail are asked for again: give both"
    if data.selection_share > 0:
        for key in ("selection", "selection_heldout"):
            if getattr(data, key) is not None:
                yield key, "is given, and data.selection_share takes one from training speech: leave out one of them"
        if data.replay is None:
            yield (
                "selection_share",
                "its heldout half is taken from data.replay: give that, or name both selection sets",
            )
    elif data.selection_heldout is not None and data.selection is None:
        yield "selection_heldout", "goes with data.selection, on which the gain is measured: give both"


def rate_in_words(rate: float, ratio: float) -> str:
    """The highest learning rate of a run, and how it comes about."""
    return f"{rate:g}" if ratio == 1.0 else f"{rate:g} times adapter.lora_plus = {ratio:g}"


def unclear_candidates(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) with the candidates that a run is to make."""
    train, data = settings.train, settings.data
    apart = data.selection_share > 0 or None not in (data.selection, data.selection_heldout)
    for key in ("interpolate", "average"):
        if getattr(train, key) and not apart:
            yield (
                key,
                "what a run makes of its intervals is chosen on selection sets, and there are none: set "
                "data.selection_share = 0.1, or data.selection and data.selection_heldout",
            )
    if train.average == 1:
        yield "average", "the average of one interval is that interval: write how many, or 0 for none"
    count = len(interval_steps(train.steps, train.eval_every))
    for key in ("average", "interpolate_last"):
        if getattr(train, key) > count:
            yield key, f"the run has {count} interval{'' if count == 1 else 's'}: give at most so many"
    if train.interpolate_last > 1 and not train.interpolate:
        yield "interpolate_last", "nothing is interpolated: give train.interpolate, or leave the key out"


def unclear_pulls(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) with what keeps the adapter near the base model."""
    train, method = settings.train, settings.adapter.method
    if train.kl > 0 and train.replay_share == 0:
        yield (
            "kl",
            "the divergence is measured on replay speech, and there is none: give data.replay and train.replay_share, "
            "or set train.kl = 0",
        )
    if train.decay_to_base > 0 and method in FROM_LAYERS:
        yield (
            "decay_to_base",
            f'adapter.method = "{method}" begins with parts of the layers, so that no smaller adapter of its rank is '
            "nearer to the base model: take lora, rslora or dora, or set train.decay_to_base = 0",
        )
    if train.learning_rate * train.decay_to_base >= 1:
        yield (
            "decay_to_base",
            f"{train.decay_to_base:g} times train.learning_rate = {train.learning_rate:g} is 1 or more, and takes all "
            "that a step has learnt: lower it",
        )


def unclear_devices(train: TrainSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) where the devices cannot have equal shares of a step."""
    count, devices = train.accumulation, train.devices
    if count % devices:
        yield (
            "devices",
            f"{devices} devices cannot share out {count} micro-batch{'' if count == 1 else 'es'} of each step evenly: "
            f"set train.accumulation = {devices * -(-count // devices)}",
        )


def unclear_ranks(adapter: AdapterSettings) -> Iterator[str]:
    """What is wrong with `adapter.rank_pattern` by itself."""
    ranks: dict[str, set[int]] = {}
    for name, rank in map(module_rank, adapter.rank_pattern):
        ranks.setdefault(name, set()).add(rank)
    for name, given in ranks.items():
        if len(given) > 1:
            yield f"{name} has ranks {' and '.join(map(str, sorted(given)))}: give it one"


def same_set(sets: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) for each evaluation set that is another one once more. `sets`: role → what it is."""
    given = {role: sets[role] for role in JUDGED if sets.get(role) is not None}
    for role, other in combinations(given, 2):
        if given[role] == given[other]:
            yield other, f"the same set as data.{role}: {_WHY_OTHER[other]}"


def _path(written: str | None) -> str | None:
    return posixpath.normpath(written) if written else None


def check_search(
    search: SearchSpace | None,
    queue: QueueSettings,
    experiments: Mapping[KeyPath, Experiment],
    problems: Problems,
    warnings: Problems,
) -> None:
    """`queue.then = "search"` and `[search]` belong together, and no experiment has the name of the drawn rows."""
    if queue.then == "search" and search is None:
        what = (
            "there is nothing to draw from: add [search], such as train.learning_rate = { log_uniform = [2e-5, 1e-4] }"
        )
        problems.add(("queue", "then"), what)
    if search is None:
        return
    if queue.then != "search":
        warnings.add(("search",), 'is not used: queue.then = "search" would draw from it', "[search]")
    for path, experiment in experiments.items():
        if experiment.id == EXPERIMENT:
            problems.add((*path, "id"), f"{EXPERIMENT!r} is the name of the rows that [search] draws: choose another")


def warn_of_rows(
    defaults: RunSettings, gate: GateSettings, experiments: Mapping[KeyPath, Experiment], warnings: Problems
) -> None:
    """Rows that can never be accepted, because too few intervals leave criteria unknown, and keys without effect."""
    concerned: dict[tuple[KeyPath, str], list[str]] = {}

    def concern(key: str, path: KeyPath, what: str, experiment: Experiment) -> None:
        names = concerned.setdefault((_given(key, path, warnings), what), [])
        names += [experiment.id] if experiment.id not in names else []

    for path, experiment in experiments.items():
        for row in experiment_rows(defaults, experiment):
            train = row.settings.train
            if reasons := _left_unknown(train, gate):
                count = len(interval_steps(train.steps, train.eval_every))
                what = (
                    f"{train.steps} steps with eval_every = {train.eval_every} give {count} "
                    f"interval{'' if count == 1 else 's'}: {' and '.join(reasons)}: it cannot pass"
                )
                concern("train.steps", path, what, experiment)
            if train.checkpoint_every is not None and train.checkpoint_every > train.eval_every:
                what = (
                    f"train.checkpoint_every = {train.checkpoint_every} has no effect: there is a checkpoint at each "
                    f"interval, which is every {train.eval_every} steps"
                )
                concern("train.checkpoint_every", path, what, experiment)
    for (path, what), names in concerned.items():
        warnings.add(path, what, ", ".join(names))


def warn_of_masked(
    defaults_set: Mapping[str, str], experiments: Mapping[KeyPath, Experiment], warnings: Problems
) -> None:
    """A default set by `--set` does not reach an experiment that has its own value in the file."""
    for key, place in defaults_set.items():
        kept = [
            experiment.id
            for path, experiment in experiments.items()
            if (key in experiment.overrides or key in experiment.sweep)
            and not warnings.is_set((*path, *key.split(".")))
        ]
        if kept:
            what = f"{', '.join(kept)} keep{'s' if len(kept) == 1 else ''} what the plan says there"
            advice = f"--set {kept[0]}:{key}=… would change that"
            warnings.add(("--set", place.removeprefix("--set ")), f"{what}; {advice}", "")


def _left_unknown(train: TrainSettings, gate: GateSettings) -> list[str]:
    """The criteria that stay UNKNOWN however the run goes, with the reason (see core.scoring.criteria)."""
    rules = Thresholds()
    evaluated = interval_steps(train.steps, train.eval_every)
    last = evaluated[-gate.stability_intervals :]
    reasons = []
    if len(evaluated) + 1 < rules.minimum_intervals:
        reasons.append(f"convergence stays UNKNOWN (it takes {rules.minimum_intervals} with interval 0)")
    if train.steps < gate.stability_min_steps:
        reasons.append(f"stability stays UNKNOWN (it takes {gate.stability_min_steps} steps)")
    elif len(last) < gate.stability_intervals:
        reasons.append(f"stability stays UNKNOWN (it takes {gate.stability_intervals} after step 0)")
    elif (last[-1] - last[0]) / train.steps < rules.stability_min_share - 1e-12:
        share = f"{rules.stability_min_share:.0%}"
        reasons.append(f"stability stays UNKNOWN (the last {len(last)} must cover {share} of the steps)")
    return reasons


def _share(defaults: RunSettings, experiment: Experiment) -> float:
    """The largest replay share that the experiment asks for, whether or not there is replay speech."""
    own: Any = experiment.sweep.get("train.replay_share") or (
        experiment.overrides.get("train.replay_share", defaults.train.replay_share),
    )
    return float(max(own))


def _given(key: str, path: KeyPath, problems: Problems) -> KeyPath:
    """Where an experiment's value of a key was written: its sweep, its own table, or the defaults."""
    parts = tuple(key.split("."))
    return problems.first_given((*path, "sweep", key), (*path, "sweep", *parts), (*path, *parts), parts, path)
