"""What a verdict is passed on (`Evidence`) and what it says (`Verdict`). Plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from core.scoring.certainty import Certainty, Significance
from core.scoring.data_health import DataHealth
from core.scoring.text import normaliser
from core.scoring.units import ErrorCounts, Unit

# Transcripts that reached the longest length that a clip of theirs may have
#
# The cap ends a model that repeats itself. Such a transcript is evidence, of a base model on speech that it was not
# made for above all. One that was cut while it still said what the reference says is none: the cap takes words from
# base model and adapter alike, and what the adapter does with them is not seen.

CUT_SHARE = 0.01
"""Of a set's utterances that a cap may cut. No speech reaches one, so that none is cut by chance; more hide what
happens to more than one word in a hundred, of which a guardrail of 0.2 points is a fifth."""
REPEATS = 2.5
"""A transcript that ends in the same piece so many times repeats itself."""
_LEAST_REPEATED = 1 / 3
"""Of the transcript: "no no no" at the end of a long one is speech."""
_RUN_ON = 2.0
"""Times as long as its reference is no transcript of it."""


@dataclass(frozen=True, slots=True)
class Capped:
    """One score of one set."""

    dataset: str
    score: str
    """`base` or `tuned`."""
    utterances: int
    reached: int
    """Transcripts that reached their cap."""
    cut: int
    """Those of them that neither repeat themselves nor run on: cut while they still said what the reference says."""

    @property
    def too_many(self) -> bool:
        """Whether the cap has cut more transcripts than a WER may rest on."""
        return self.cut > CUT_SHARE * self.utterances

    @property
    def sentence(self) -> str:
        """How often, in words, without a full stop."""
        model = "base model" if self.score == "base" else "adapter"
        told = (
            f"{self.reached} of {self.utterances} transcripts of the {model} on {self.dataset} reached their token cap"
        )
        return f"{told}, {self.cut} of them ({self.cut / self.utterances:.1%} of all) before they had ended"


def capped(dataset: str, score: str, texts: Iterable[tuple[str, str]], utterances: int) -> Capped:
    """`texts`: (reference, hypothesis) of the transcripts that reached their cap."""
    found = list(texts)
    return Capped(dataset, score, utterances, len(found), sum(not ran_on(*pair) for pair in found))


def caps_obstacle(scores: Sequence[Capped]) -> str:
    """Why no WER of the run can be judged, or nothing."""
    wrong = [one.sentence for one in scores if one.too_many]
    return f"{'; '.join(wrong)}: how the model goes on there is not known" if wrong else ""


def ran_on(reference: str, hypothesis: str) -> bool:
    """Whether a transcript is no longer one of its reference: it is twice as long, or ends in repeating itself."""
    basic = normaliser("basic").apply
    said, heard = basic(reference).replace(" ", ""), basic(hypothesis).replace(" ", "")
    return len(heard) >= _RUN_ON * max(1, len(said)) or repeated_end(heard) not in said


def repeated_end(text: str) -> str:
    """The end of `text`, which has no spaces, that is one piece again and again (the last may be cut); or nothing."""
    for period, same in enumerate(_same_as_shifted(text[::-1])):
        length = same + period
        if 0 < period <= len(text) / REPEATS and length >= max(REPEATS * period, _LEAST_REPEATED * len(text)):
            return text[-length:]
    return ""


def _same_as_shifted(text: str) -> list[int]:
    """For each shift, how many characters of the text are the same as those that begin it (the Z function).

    Its time grows with the length alone: who writes a transcript must not decide how long a verdict takes.
    """
    found = [0] * len(text)
    left = right = 0  # the match that reaches furthest
    for at in range(1, len(text)):
        same = min(right - at, found[at - left]) if at < right else 0
        while at + same < len(text) and text[same] == text[at + same]:
            same += 1
        found[at] = same
        if at + same > right:
            left, right = at, at + same
    return found


# What a verdict is passed on, and what it says


class State(Enum):
    """The state of one criterion."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"


class Decision(Enum):
    """The verdict on a run: any FAIL rejects; else any UNKNOWN leaves it undecided."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class SetScore:
    """One manifest at one interval. `loss` is cross-entropy in nats per target token."""

    counts: ErrorCounts
    loss: float | None


@dataclass(frozen=True, slots=True)
class Interval:
    """One full evaluation. Interval 0 (step 0) is the base model."""

    step: int
    domain: SetScore
    heldout: SetScore
    selection: SetScore | None = None
    selection_heldout: SetScore | None = None
    seconds: float | None = field(default=None, compare=False, repr=False)
    """What the evaluation took; a base model whose score was there already takes none."""


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """A candidate that is no interval: made of the saved adapters of intervals when training was over."""

    name: str
    """Of its folder: `step-000200-x0.30`, `average-000025-000100`."""
    made_of: tuple[int, ...]
    """Steps of the intervals whose weights it is the average of, ascending."""
    alpha: float
    """How much of the way from the base model to that it goes."""
    hash: str
    """Of its adapter."""
    chosen: bool
    """Whether it is what the run ships; only that one is scored on domain and heldout."""
    selection: SetScore | None = None
    selection_heldout: SetScore | None = None
    domain: SetScore | None = None
    heldout: SetScore | None = None

    @property
    def step(self) -> int:
        """Of the newest interval that it is made of."""
        return self.made_of[-1]


@dataclass(frozen=True, slots=True)
class Parity:
    """How the tuned score, made by a separate process, compares with the trainer's own at that interval."""

    same_device: bool
    """Same device type and precision in both processes."""
    domain_transcripts_differing: int | None
    heldout_transcripts_differing: int | None
    single_transcripts_compared: int
    """Clips that were also decoded one by one."""
    single_transcripts_differing: int | None
    trainer_fingerprint: str | None
    """Normalisation fingerprint (audio path and text normaliser) of the trainer."""
    evaluator_fingerprint: str | None
    clips_available: int | None = None
    """Clips in the scored manifests; where they are fewer than 50, all are decoded one by one."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Which adapter the tuned score came from."""

    scored_step: int | None
    scored_hash: str | None
    """Hash that `lora-cli evaluate` found in the folder it loaded."""
    current_hash: str | None
    """Hash of `lora_adapter_best` now; None when it cannot be read."""
    best_step: int | None
    """Where `lora_adapter_best` points now; of a candidate made of intervals, the step of the newest."""
    best_name: str | None = None
    """The name of the folder that it points at."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one candidate did."""

    name: str
    gain_pp: float
    """Points by which its error rate on the selection set is below the base model's."""
    rise_pp: float
    """Points by which its error rate on the heldout selection set is above the base model's."""
    keeps: float
    """The probability that it keeps the guardrail."""
    loss_rise: float | None
    """Nats by which its loss on the heldout selection set is above the base model's; None where one is not known."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate that is shipped, and why."""

    name: str | None
    """None: there was nothing to choose from."""
    kept: bool | None
    """Whether it keeps the guardrail with the stated confidence; None without a candidate."""
    why: str
    """One sentence."""
    standings: tuple[Standing, ...] = ()
    """Of all candidates, in the order of their names."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the runtime of an export made of the evaluation sets, or why nobody can tell."""

    target: str
    """`ct2:int8`."""
    runtime: str = ""
    """`faster-whisper 1.2.1 on cpu in int8_float32`."""
    domain: ErrorCounts | None = None
    heldout: ErrorCounts | None = None
    significance: Significance | None = None
    """How sure the WER differences are as served."""
    utterances: int = 0
    changed: int = 0
    """Transcripts that are not those of the adapter that was judged."""
    caps: tuple[Capped, ...] = ()
    """Of its transcripts, those that reached their token cap."""
    problem: str | None = None
    """Why there is no such evidence, a sentence."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """What base model and adapter make of the run's part of the reserve, or why nobody can tell."""

    part: int | None = None
    of: int = 0
    """Which part, of how many."""
    baseline_domain: ErrorCounts | None = None
    baseline_heldout: ErrorCounts | None = None
    tuned_domain: ErrorCounts | None = None
    tuned_heldout: ErrorCounts | None = None
    significance: Significance | None = None
    caps: tuple[Capped, ...] = ()
    """Transcripts on it that reached their token cap."""
    problem: str | None = None
    """Why there is no such evidence, a sentence."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything `judge` looks at. What is missing is None and never passes."""

    steps_planned: int
    steps_completed: int
    intervals: tuple[Interval, ...]
    baseline_domain: ErrorCounts | None
    baseline_heldout: ErrorCounts | None
    tuned_domain: ErrorCounts | None
    tuned_heldout: ErrorCounts | None
    artifact: Artifact | None
    parity: Parity | None
    failure: str | None = None
    """How the run ended if it did not end well: diverged, out of memory, error (a sentence). It rejects."""
    broke_down: bool = False
    """Whether that failure says nothing of the settings' worth: an error, want of memory, a trainer given up."""
    significance: Significance | None = None
    """How sure the WER differences are; None where that cannot be computed."""
    missing_intervals: tuple[int, ...] = ()
    """Steps at which the run was to be evaluated, and of which there is no interval though later ones exist."""
    contradiction: str | None = None
    """What the run's own files say differently, because somebody edited one (a sentence); it rejects."""
    unproven: str | None = None
    """Why the run's scores cannot be believed: a file changed since it ended, or an earlier version wrote it."""
    signature_problem: str | None = None
    """What is wrong with the run's signature, where there is a key to check it with; it rejects."""
    data_health: DataHealth | None = None
    """The audit of the run's sets; without one no WER is valid."""
    uncounted: str | None = None
    """Why the run's errors, which are counted by another unit than the gate's, could not be counted again."""
    choice: Choice | None = None
    """How the candidate was chosen on sets of their own; None where there are none."""
    chosen: CandidateScore | None = None
    """What `lora_adapter_best` leads to, where that is no interval."""
    caps: tuple[Capped, ...] = ()
    """Transcripts of base model and adapter that reached their token cap, by set."""
    served: Served | None = None
    """Of the export that the gate asks for; None: it asks for none, or nobody looked."""
    reserve: Reserve | None = None
    """None: the run has no reserve, or nobody looked."""


def best_scores(evidence: Evidence, best_step: int | None) -> tuple[SetScore | None, SetScore | None]:
    """The trainer's own scores on domain and heldout of what is judged: a candidate, or the interval of the step."""
    own = evidence.chosen or next((one for one in evidence.intervals if one.step == best_step), None)
    return (None, None) if own is None else (own.domain, own.heldout)


@dataclass(frozen=True, slots=True)
class SliceRule:
    """From `[[gate.slice]]`: thresholds, in points, that each slice of a set must meet. None: not asked for."""

    by: str
    """duration, speaker, or another field of the manifest."""
    values: tuple[str, ...] = ()
    """The values looked at; none given: all there are."""
    edges: tuple[float, ...] = ()
    """Seconds, rising; with `by` duration."""
    domain_gain_pp: float | None = None
    heldout_regression_pp: float | None = None
    min_utterances: int = 50

    def threshold(self, dataset: str) -> float | None:
        """The threshold on a set: the least gain on domain, the largest rise on heldout."""
        return self.domain_gain_pp if dataset == "domain" else self.heldout_regression_pp


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From `[gate]`; those on error rates in percentage points."""

    domain_gain_pp: float = 1.0
    heldout_regression_pp: float = 0.2
    stability_range_pp: float = 0.5
    stability_intervals: int = 3
    stability_min_steps: int = 1000
    stability_min_share: float = 0.2
    """The last intervals must cover at least this share of the planned steps."""
    parity_pp: float = 0.05
    """Largest |ΔWER| when device or precision differ."""
    parity_single_clips: int = 50
    """Clips that must also have been decoded one by one (or all there are, if fewer)."""
    minimum_intervals: int = 4
    """Intervals (0 included) that convergence needs."""
    confidence: float | None = None
    """How sure a PASS or a FAIL of the WER criteria must be; None: they go by the point estimates."""
    selection_confidence: float = 0.8
    """How sure a candidate must be to keep the guardrail on the heldout selection set, to be chosen for its gain."""
    block_by: str = "speaker"
    """Of what errors come together: speaker, or another field of the manifest."""
    unknown_speakers: str | None = None
    """Why a set may be judged though nobody knows its speakers (values of `block_by`); None: it may not, where the
    verdict is to be sure."""
    accept_leakage: str | None = None
    """Why recordings that are in training and in an evaluation set are accepted; None: they are not."""
    slices: tuple[SliceRule, ...] = ()
    """Further criteria, on parts of the sets."""
    unit: Unit = Unit.WORD
    """What an error rate counts: all counts of the evidence are of it."""
    runtime: str | None = None
    """The form in which the adapter is served, whose runtime must keep gain and guardrail too; None: none is named."""
    normaliser_chosen: bool = False
    """Whether the plan names its text normaliser; else a WER that depends on spelling is not judged."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of the verdict panel."""

    name: str
    """convergence, stability, integrity, domain_gain, heldout, parity, runtime, reserve; `domain_gain by speaker`."""
    title: str
    state: State
    value: float | None
    """The measured number, in `unit`; None when there is none."""
    threshold: float | None
    unit: str
    reason: str
    """One sentence with the numbers; when UNKNOWN, what is missing."""
    certainty: Certainty | None = None
    """How sure the number is; of the WER criteria only."""

    @property
    def kind(self) -> str:
        """The name without what it is sliced by: domain_gain or heldout, for a slice."""
        return self.name.partition(" by ")[0]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The six criteria, that on the runtime, those on slices, and what they add up to."""

    criteria: tuple[Criterion, ...]
    decision: Decision
    best_step: int | None
    guardrail_kept: bool | None
    """Whether any interval ≥ 1 kept the heldout guardrail; None without intervals."""
    loosened: tuple[str, ...] = ()
    """The thresholds weaker than the defaults that it was judged by, a phrase each."""
    remarks: tuple[str, ...] = ()
    """What must be known before the verdict is believed, a sentence each: every face shows them at its head."""

    failed: bool = False
    """Whether the run broke down, which rejects it without a word on its WERs."""
    chosen: str | None = None
    """The name of the candidate that it is passed on, where that is made of intervals; `best_step` is the newest's."""

    @property
    def best(self) -> str:
        """What is judged, in words: `interval step 100`, or a candidate's name; nothing without intervals."""
        if self.chosen is not None:
            return f"candidate {self.chosen}"
        return "" if self.best_step is None else f"interval step {self.best_step}"

    @property
    def word(self) -> str:
        """What every face calls the decision: `failed` for a run that broke down."""
        return "failed" if self.failed else self.decision.value

    def criterion(self, name: str) -> Criterion:
        """The criterion called `name`; KeyError if there is none."""
        for item in self.criteria:
            if item.name == name:
                return item
        raise KeyError(name)

    @property
    def slices(self) -> State | None:
        """What the criteria on slices come to; None where the gate has none."""
        states = {item.state for item in self.criteria if item.kind != item.name}
        return next((state for state in (State.FAIL, State.UNKNOWN, State.PASS) if state in states), None)
