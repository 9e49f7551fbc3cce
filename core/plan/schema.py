"""The plan's schema: every key, its unit and its default, in this one place.

A plan file holds `[model] [data] [train] [adapter]` defaults, `[gate]` and `[queue]` policies,
`[[experiment]]` entries that override the defaults with `train.*`, `adapter.*` and `data.*`, `[search]` ranges over
such keys, and `[[history]]` rows.
Field metadata: `unit`, `doc` (shown by `lora-tui plan` and `init`), `choices`, `minimum`, `maximum`, `above`,
`below` (exclusive), `most` (items of a list), `repeats` (a list whose items may repeat), `words` (a text that must
say something), `opening` (what a text begins with, before it says something), `reads` (a function that reads a text,
and whose ValueError says what is wrong with it), `single` (a list of one may be written as its one text), `pairs` (a
list that may be written as a table of whole numbers). Readers validate against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from core.plan.exports import TARGETS
from core.plan.texts import MOST_RANK, layer_range, module_rank, sbatch_option, slurm_time
from core.scoring.text import NAMES
from core.scoring.units import Unit

HIGH_LEARNING_RATE = 2e-4
"""At and above this, runs have shown catastrophic forgetting; those need `allow_high_learning_rate`."""

DEFAULT_EPOCHS = 3.0
"""Passes over the training manifest where a plan gives neither `epochs` nor `batch_seconds`."""

SINKS = ("tensorboard", "wandb", "mlflow", "trackio")
"""Trackers that `core.sinks` can tell of a run while it goes on."""

SAMPLERS = ("random", "tpe")
"""How `[search]` draws: each row for itself, or by what earlier ones gave (`core.queue.search`)."""

MOST_NUMBER = 2**53
"""Of any number of a plan or of a document of a run, and below zero alike: beyond it, whole numbers are no floats."""

MOST_STEPS = 10_000_000
"""Months of training; more is a slip of the keyboard. Every whole number of a plan has such a maximum."""

MOST_INTERVALS = 10_000
"""Full evaluations of one run, each of which leaves files."""

MOST_SEED = 2**32 - 1
"""A step's own seed, a million times that and more (`core.training.determinism`), fits 64 bits."""

MOST_WAYS = 20
"""Interpolations of one adapter with the base: more are the same curve drawn finer, each for a decoding."""

MOST_BEAMS = 50
"""Ten times what anybody uses: each costs as much as a whole greedy decoding."""

_MANY = 1_000_000
"""Of what is only counted."""


_Settings = TypeVar("_Settings")


def with_keys(settings: _Settings, values: Mapping[str, Any]) -> _Settings:
    """`settings`, a dataclass of this module, with the values of dotted keys: `augment.speed` is in a table in it."""
    own: dict[str, Any] = {}
    deeper: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        name, dot, rest = key.partition(".")
        if dot:
            deeper.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    own |= {name: with_keys(getattr(settings, name), inner) for name, inner in deeper.items()}
    return replace(settings, **own)  # type: ignore[type-var]


def threads_of_each(threads: int, devices: int) -> int:
    """CPU threads of each process of a trainer, where its `devices` share `train.threads`."""
    return max(1, threads // devices)


def _key(default: Any, doc: str, **rules: Any) -> Any:
    return field(default=default, metadata={"doc": doc, **rules})


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`[model]`: the base model."""

    id: str = _key("", "a folder in hub format (relative to the plan) or a hub id", required=True)
    revision: str | None = _key(
        None, "the hub's branch, tag or commit; its commit is recorded and part of the identity"
    )
    language: str | None = _key(
        None, 'code of what is spoken ("de"), for models that are told it; clips may name their own'
    )
    task: str | None = _key(None, 'what such a model does with it ("translate"); default: transcribe')
    audio_context: float | None = _key(
        None,
        "of Whisper: seconds heard after a clip, in place of all of its window of 30; faster, and it may repeat itself",
        unit="s",
        minimum=0.0,
        maximum=30.0,
    )


@dataclass(frozen=True, slots=True)
class DataSettings:
    """`[data]`: manifests (paths relative to the plan) and the audio and text normalisation."""

    train: str = _key("", "manifest of the domain's training speech", required=True)
    replay: str | None = _key(None, "manifest of general speech, mixed in so that the model does not forget it")
    domain: str = _key("", "manifest of the domain evaluation set", required=True)
    heldout: str = _key("", "manifest of ordinary speech that must not get worse", required=True)
    selection: str | None = _key(None, "manifest on which the best interval is chosen, instead of domain")
    selection_heldout: str | None = _key(
        None, "with selection: manifest of ordinary speech, on which what is chosen must keep the guardrail"
    )
    selection_share: float = _key(
        0.0,
        "instead of both: share of train and of replay that is not trained on but chosen on, speakers and texts apart",
        minimum=0.0,
        maximum=0.5,
    )
    reserve_domain: str | None = _key(
        None, "manifest of more domain speech, of which each accepted run must pass on a part that no run has seen"
    )
    reserve_heldout: str | None = _key(None, "with reserve_domain: manifest of more ordinary speech, likewise")
    reserve_parts: int = _key(
        4,
        "parts of the reserve, by speaker: so many runs can be accepted on new speech",
        minimum=1,
        maximum=100,
    )
    target_rms: float = _key(0.075, "RMS that each clip is brought to", above=0.0, maximum=0.5)
    max_seconds: float = _key(30.0, "longest clip in training; longer ones are counted and named", unit="s", above=0.1)
    normaliser: str = _key("basic", "text normaliser of the error rates", choices=NAMES)


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """`[train.augment]`: how training and replay clips are changed, anew at each step. All of it is off by default.

    A clip is played at another speed, then noise is added, then its loudness is normalised as in evaluation; masks lie
    over the features that a family makes of it.
    """

    time_masks: int = _key(
        0, "SpecAugment: stretches of time that are masked in each clip's features; 0: none", minimum=0, maximum=100
    )
    time_mask_share: float = _key(
        0.05, "longest of them, as a share of the clip", above=0.0, maximum=0.5, needs="time_masks"
    )
    feature_masks: int = _key(
        0, "SpecAugment: bands of features that are masked in each clip; 0: none", minimum=0, maximum=20
    )
    feature_mask_share: float = _key(
        0.2, "widest of them, as a share of the features", above=0.0, maximum=0.5, needs="feature_masks"
    )
    noise: str | None = _key(
        None, "folder of noise recordings (relative to the plan), which are added to clips; its contents are hashed"
    )
    noise_share: float = _key(0.5, "share of the clips that get noise", above=0.0, maximum=1.0, needs="noise")
    snr_low: float = _key(
        5.0, "loudest noise, as a signal-to-noise ratio", unit="dB", minimum=-20.0, maximum=100.0, needs="noise"
    )
    snr_high: float = _key(25.0, "quietest noise", unit="dB", minimum=-20.0, maximum=100.0, needs="noise")
    speed: float = _key(
        0.0, "largest change of a clip's speed: 0.1 plays it at 0.9 to 1.1, its pitch too", minimum=0.0, maximum=0.3
    )

    def acting(self) -> dict[str, Any]:
        """The keys that change anything: those of what is switched on. Empty: nothing is."""
        on = {f.name: getattr(self, f.name) for f in fields(self)}
        switches = {name: on[name] for name in ("time_masks", "feature_masks", "noise", "speed")}
        needed = {f.name: f.metadata.get("needs", f.name) for f in fields(self)}
        return {name: value for name, value in on.items() if switches[needed[name]]}


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`[train]`. A step is one optimiser update, whatever the accumulation."""

    steps: int = _key(1000, "optimiser updates", unit="steps", minimum=1, maximum=MOST_STEPS)
    epochs: float | None = _key(
        None, f"passes over the training manifest; derives the batch; default {DEFAULT_EPOCHS:g}", above=0.0
    )
    batch_seconds: float | None = _key(
        None,
        "audio seconds of training and replay speech in one step, instead of epochs",
        unit="s",
        above=0.0,
    )
    eval_every: int = _key(
        100, "steps between intervals (full evaluations)", unit="steps", minimum=1, maximum=MOST_STEPS
    )
    """With `steps` it gives at most MOST_INTERVALS intervals (`core.plan.rules`)."""
    learning_rate: float = _key(1e-4, "peak learning rate", above=0.0, maximum=1.0)
    allow_high_learning_rate: bool = _key(False, f"permit learning rates of {HIGH_LEARNING_RATE:g} and more")
    warmup: float = _key(0.1, "share of the steps with linear warm-up", minimum=0.0, maximum=0.9)
    schedule: str = _key("linear", "after the warm-up", choices=("linear", "constant"))
    accumulation: int = _key(1, "micro-batches in one step", minimum=1, maximum=10_000)
    clip: float = _key(1.0, "gradient norm clip", above=0.0)
    weight_decay: float = _key(0.0, "AdamW weight decay", minimum=0.0)
    seed: int = _key(0, "seed of batch order, adapter initialisation and dropout", minimum=0, maximum=MOST_SEED)
    replay_share: float = _key(0.5, "share of replay speech in each step's seconds", minimum=0.0, maximum=0.95)
    replay_share_by: str = _key(
        "seconds",
        "what replay_share is a share of: seconds of speech, or tokens of its transcripts, which the loss counts",
        choices=("seconds", "tokens"),
    )
    kl: float = _key(
        0.0,
        "weight of the divergence from the base model's outputs on replay speech, which the step minimises with the "
        "loss; 0: off",
        minimum=0.0,
        maximum=1000.0,
    )
    decay_to_base: float = _key(
        0.0,
        "pull to the base model: each step takes learning rate times this of every layer's change away; 0: off",
        minimum=0.0,
    )
    ema: float = _key(
        0.0,
        "decay of a moving average of the adapter over steps, as 0.99, which intervals score and save; 0: off",
        minimum=0.0,
        below=1.0,
    )
    devices: int = _key(
        1,
        "GPUs that share each step's micro-batches and each evaluation (without GPUs: processes); accumulation must be "
        "a multiple of it",
        minimum=1,
        maximum=1024,
    )
    threads: int = _key(2, "CPU threads of the trainer, shared by its devices", minimum=1, maximum=1024)
    precision: str = _key(
        "auto",
        "of training steps; auto: bf16 autocast where the GPU gains by it, else fp32. Scores are always fp32",
        choices=("auto", "fp32", "bf16"),
    )
    base_precision: str = _key(
        "fp32",
        "of the frozen base in training steps, on CUDA GPUs; 8bit takes bitsandbytes. Adapters and scores are fp32",
        choices=("fp32", "bf16", "8bit"),
    )
    gradient_checkpointing: bool = _key(
        False, "compute each layer again in the backward pass instead of keeping its activations: slower, less memory"
    )
    eval_batch_seconds: float = _key(
        120.0,
        "seconds of the encoder's input in one evaluation batch (Whisper hears 30 of each clip)",
        unit="s",
        above=0.0,
    )
    deterministic: bool = _key(False, "the same bits from every run on one kind of GPU; slower; a CPU needs it not")
    keep_checkpoints: int = _key(
        2, "resumable checkpoints kept while the run goes on", minimum=1, maximum=MOST_INTERVALS
    )
    checkpoint_every: int | None = _key(
        None, "steps between checkpoints; default: eval_every", unit="steps", minimum=1, maximum=MOST_STEPS
    )
    interpolate: tuple[float, ...] = _key(
        (),
        "further candidates, once trained: so much of the way from the base model to the last interval, and to its "
        "average, as in [0.2, 0.35, 0.5, 0.7]; takes selection sets",
        minimum=0.01,
        maximum=0.99,
        most=MOST_WAYS,
    )
    interpolate_last: int = _key(
        1,
        "so many of the last intervals, and of the averages that end there, are interpolated; each costs decoding",
        unit="intervals",
        minimum=1,
        maximum=1000,
    )
    average: int = _key(
        0,
        "further candidates, once trained: at each interval, the average of the weights of so many, it and those "
        "before it; 0: none; takes selection sets",
        unit="intervals",
        minimum=0,
        maximum=1000,
    )
    augment: AugmentSettings = AugmentSettings()
    """`[train.augment]`."""
    beams: int = field(default=1, metadata={"derived": True, "minimum": 1, "maximum": MOST_BEAMS})
    """No key of its own: `gate.beams`, which changes every score and so is part of the run."""


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """`[adapter]`: what peft trains."""

    method: str = _key(
        "dora",
        "adapter method; pissa and olora begin with the layers' own principal parts instead of zero",
        choices=("dora", "lora", "rslora", "pissa", "olora"),
    )
    rank: int = _key(16, "rank r of the update", minimum=1, maximum=MOST_RANK)
    alpha: float = _key(32.0, "scale: the update is multiplied by alpha / rank (rslora: its square root)", above=0.0)
    dropout: float = _key(0.0, "dropout on the adapter's input", minimum=0.0, maximum=0.9)
    target_modules: tuple[str, ...] = _key(
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        'names of the linear layers that get an adapter; or "attention", "mlp", "all-linear"',
        single=True,
    )
    sites: str | None = _key(
        None,
        "where those layers are; default: in both, of a speech language model in its decoder alone",
        choices=("encoder", "decoder", "both"),
    )
    layers: str | None = _key(
        None, 'of each stack only these layers, from 0: "6-11", "6-" (to the last), "6"', reads=layer_range
    )
    rank_pattern: tuple[str, ...] = _key(
        (), "ranks of layers that differ from rank, as in { q_proj = 8, fc1 = 32 }", reads=module_rank, pairs=True
    )
    lora_plus: float = _key(
        1.0, "LoRA+: the learning rate of B over that of A; the paper has 16", minimum=1.0, maximum=1000.0
    )


@dataclass(frozen=True, slots=True)
class SliceSettings:
    """One `[[gate.slice]]`: a further criterion on each part of an evaluation set. At least one threshold is given."""

    by: str = _key(
        "", "duration, speaker, or another field of the manifest: what parts the set into slices", required=True
    )
    values: tuple[str, ...] = _key((), "the values of the field that are looked at; default: all there are")
    edges: tuple[float, ...] = _key((), "with by = duration: where one slice ends and the next begins", unit="s")
    domain_gain: float | None = _key(None, "least fall of the error rate in each slice of domain", unit="points")
    heldout_regression: float | None = _key(None, "largest rise of it in each slice of heldout", unit="points")
    min_utterances: int = _key(
        50, "a slice with fewer utterances is unknown", unit="utterances", minimum=2, maximum=_MANY
    )


@dataclass(frozen=True, slots=True)
class GateSettings:
    """`[gate]`: the thresholds of the verdict. Those on error rates are percentage points, absolute."""

    unit: str = _key(
        "word",
        "what error rates count: word (WER); character (CER), for scripts without spaces; mixed (MER), characters of "
        "such scripts and words elsewhere",
        choices=tuple(unit.value for unit in Unit),
    )
    beams: int = _key(
        1,
        "hypotheses of the beam search that every score is decoded with (encoder–decoders only); 1: greedy. Another "
        "number makes another run",
        minimum=1,
        maximum=MOST_BEAMS,
    )
    domain_gain: float = _key(1.0, "least fall of the domain error rate", unit="points")
    heldout_regression: float = _key(0.2, "largest rise of the heldout error rate", unit="points")
    stability_range: float = _key(
        0.5, "largest span of the domain error rate in the last intervals", unit="points", minimum=0.0
    )
    stability_intervals: int = _key(3, "how many last intervals stability looks at", minimum=2, maximum=MOST_INTERVALS)
    stability_min_steps: int = _key(
        1000, "fewer completed steps leave stability unknown", unit="steps", minimum=0, maximum=MOST_STEPS
    )
    confidence: str | float = _key(
        "point",
        "how sure PASS and FAIL of the criteria on error rates must be, such as 0.95; point: by the point estimates",
        choices=("point",),
        above=0.5,
        below=1.0,
    )
    selection_confidence: float = _key(
        0.8,
        "how sure a candidate must be to keep heldout_regression on data.selection_heldout, to be chosen for its gain",
        minimum=0.5,
        below=1.0,
    )
    block_by: str = _key("speaker", "manifest field, of whose values each counts as one in how sure the verdict is")
    slice: tuple[SliceSettings, ...] = ()
    """`[[gate.slice]]`, read by `core.plan.read`."""
    normaliser_chosen: bool = field(default=False, metadata={"derived": True})
    """No key of its own: whether the plan names `data.normaliser`, whose default nobody chose."""
    confirm_seeds: int = _key(
        0, "an accepted run is repeated with so many other seeds, which must be accepted too", minimum=0, maximum=20
    )
    accept_leakage: str | None = _key(
        None,
        "why recordings may be in training and in an evaluation set; without a reason no error rate is judged",
        words=True,
    )
    speakers: str | None = _key(
        None,
        'where nobody knows the speakers: "unknown: " and why that is right; else without them no verdict is sure',
        opening="unknown:",
    )
    runtime: str | None = _key(
        None,
        "the form in which the adapter is served: what its own runtime makes of an export must keep the gain and the "
        "guardrail, too (lora-cli export)",
        choices=tuple(str(target) for target in TARGETS),
    )
    early_stop: float | None = _key(
        None,
        "end (and reject) a run whose heldout error rate rose by more than this, or whose domain loss is above the "
        "base model's, in each of the last early_stop_intervals",
        unit="points",
        minimum=0.0,
    )
    early_stop_intervals: int = _key(
        3, "intervals in a row that early_stop looks at", minimum=1, maximum=MOST_INTERVALS
    )


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """`[queue.slurm]`: what `sbatch` is told, with `executor = "slurm"`. What is left out the cluster decides."""

    partition: str | None = _key(None, "partition (sbatch --partition)")
    account: str | None = _key(None, "account (--account)")
    qos: str | None = _key(None, "quality of service (--qos)")
    time: str | None = _key(
        None, 'time limit of a job (--time), as "8:00:00"; the run goes on in another job', reads=slurm_time
    )
    gres: str | None = _key(None, 'generic resources (--gres), as "gpu:1"')
    cpus: int | None = _key(None, "CPUs of a job (--cpus-per-task); default: train.threads", minimum=1, maximum=1024)
    mem: str | None = _key(None, 'memory of a job (--mem), as "32G"')
    options: tuple[str, ...] = _key(
        (), 'further options of sbatch, as ["--constraint=a100"]', reads=sbatch_option, most=100
    )
    setup: str | None = _key(None, 'shell lines before the trainer, as "module load cuda"')
    save_seconds: int = _key(
        120,
        "before the time limit the trainer is told to save and end (--signal)",
        unit="s",
        minimum=1,
        maximum=3600,
    )
    jobs: int = _key(
        4, "most jobs of the queue that run or wait in Slurm at a time", unit="jobs", minimum=1, maximum=10_000
    )


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`[queue]`: when the queue ends and how it treats failures."""

    until: str = _key("accepted", "stop at the first accepted run, or run all", choices=("accepted", "all"))
    then: str = _key(
        "stop",
        "when the plan is used up and nothing was accepted; search: go on with draws from [search]",
        choices=("stop", "search"),
    )
    max_runs: int = _key(20, "budget: runs started", minimum=1, maximum=_MANY)
    max_hours: float = _key(
        24.0,
        "budget: hours of training, all runs together; what runs then is stopped, resumable",
        unit="hours",
        above=0.0,
    )
    executor: str = _key(
        "local", "where trainers run: on this machine, or as jobs of a Slurm cluster", choices=("local", "slurm")
    )
    slurm: SlurmSettings = SlurmSettings()
    """`[queue.slurm]`."""
    gpu_free_gb: float | None = _key(
        None, "GPU memory that must be free before a run starts there; default: 80 % of it", unit="GiB", above=0.0
    )
    retries: int = _key(2, "times a crashed or killed run is resumed", minimum=0, maximum=_MANY)
    on_accept: str = _key(
        "finish", "what runs beside an accepted run: finish it, or stop it", choices=("finish", "stop")
    )
    on_out_of_memory: str = _key(
        "fail",
        "a run that ran out of memory in training: give it up, or run it again with micro-batches of half the size "
        "(twice the accumulation, the same step; another run)",
        choices=("fail", "halve"),
    )
    pause_after: int = _key(
        3, "runs that fail alike, one after the other, before the queue pauses; 0: never", minimum=0, maximum=_MANY
    )
    notify: tuple[str, ...] = _key(
        (),
        "program and arguments, run when a run ends, or the queue pauses or ends; JSON on its stdin, no shell",
        repeats=True,
    )
    sinks: tuple[str, ...] = _key(
        (), "trackers that are told of each run while it goes on; none of them can stop one", choices=SINKS
    )


@dataclass(frozen=True, slots=True)
class RunSettings:
    """All that can change a run's result; what `run.json` holds and what the identity is taken over."""

    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    adapter: AdapterSettings


@dataclass(frozen=True, slots=True)
class Experiment:
    """One `[[experiment]]`: overrides of the defaults, an optional sweep, the conditions for running it."""

    id: str
    title: str = ""
    after: tuple[str, ...] = ()
    """Experiments whose runs must have ended (or been skipped) first."""
    when: str | None = None
    """A condition on other experiments' results (`core.plan.conditions`)."""
    adapter_from: tuple[str, ...] = ()
    """Take `adapter.target_modules` from the best run among these ("the better architecture so far")."""
    sweep: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Dotted key (`train.learning_rate`) to its values; several keys give the product."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Dotted key to value."""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """What one key of `[search]` is drawn from: `low` to `high`, or one of `values`."""

    kind: str
    """log_uniform, uniform or choices."""
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    """Whether the key takes whole numbers only."""
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """`[search]`: what rows are drawn from when the plan is used up."""

    seed: int = 0
    ranges: dict[str, Range] = field(default_factory=dict)
    """By dotted key, such as `train.learning_rate`."""
    sampler: str = "random"
    """One of SAMPLERS."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One `[[history]]`: an earlier result made elsewhere, printed in the run matrix as it is.

    Its error rates are by the gate's unit: `domain_wer`, `domain_cer` or `domain_mer` in the plan.
    """

    id: str
    title: str = ""
    note: str = ""
    domain_wer: float | None = None
    heldout_wer: float | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan, validated. `defaults` are the settings before an experiment's overrides."""

    path: str
    defaults: RunSettings
    gate: GateSettings
    queue: QueueSettings
    experiments: tuple[Experiment, ...]
    history: tuple[HistoryRow, ...] = ()
    search: SearchSpace | None = None
    warnings: tuple[str, ...] = ()
    """What is allowed but probably not meant, in the form of problems: `file:line: what`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the expanded plan: an experiment with one choice of its sweep values."""

    key: str
    """Unique in the plan: `2.1`, `3.1#2` for the second value of a sweep, `search#4` for a draw, `2.1@seed1`."""
    experiment: str
    title: str
    label: str
    """What the sweep chose, e.g. `learning_rate=5e-05`; empty without a sweep."""
    settings: RunSettings
    """Final, except `adapter.target_modules` while `adapter_from` waits for results."""
    after: tuple[str, ...] = ()
    when: str | None = None
    adapter_from: tuple[str, ...] = ()
    drawn: bool = False
    """Whether `[search]` made it: it runs when the plan's own rows are used up."""
    confirms: str | None = None
    """Key of the row that this one repeats with another seed, once that is accepted."""
