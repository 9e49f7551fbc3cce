"""The search that learns from results: Optuna's TPE, and its journal in the runs folder.

A row is drawn in its turn, when a trainer could begin with it. Before that Optuna is told what became of the rows that
it drew earlier. All of it lies in one journal of Optuna's own format, to which only the supervisor appends: killed at
any moment, it goes on from there, and no number is drawn twice. What a row is made of stands in it as an attribute of
its trial. That is all that anybody else reads of it, without Optuna, and only values within the plan's own ranges
count: a runs folder may have come from elsewhere.

A draw is a function of the seed, its number and the results that were told before it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Literal

import msgspec

from core.errors import RunFolderError, UserError
from core.plan.identity import identity_facts
from core.plan.rows import Draws, rounded, short
from core.plan.rows import draw as draw_at_random
from core.plan.schema import Plan, Range, SearchSpace
from core.runs.folder import open_append, opened
from core.runs.paths import RunsFolder
from core.scoring.criteria import wer_points
from core.scoring.evidence import Evidence, Interval, Verdict
from core.system.files import append_whole, check_size, cut_torn_line, lines, open_raw, parse_json, stamp

JOURNAL_BYTES = 16 << 20
"""A thousand draws of twenty keys take a third of that, if few of them repeat a row."""
MISSING = 'search.sampler: "tpe" needs optuna, which is not installed: install lora-tui[search], or take "random"'
_STUDY = "search"
_DRAWN = "drawn"
"""Attribute of a trial: dotted key → value."""
_CREATE_TRIAL, _SET_ATTRIBUTE = 4, 8
"""Of Optuna's journal: `op_code` of the lines that tell what was drawn."""
_TRIES = 5
"""Draws in a row that repeat rows which are there: then the next is drawn at random among the others."""
_CANDIDATES = 4096
"""Of a draw at random: all of a space that has no more, else so many tries."""
_ANEW = "move it away, and the search begins anew, with the runs that are there"


def learns(plan: Plan) -> bool:
    """Whether the plan goes on with a search that learns from results."""
    return plan.queue.then == "search" and plan.search is not None and plan.search.sampler != "random"


def lacking(plan: Plan) -> list[str]:
    """What this machine lacks for the plan's search."""
    return [MISSING] if learns(plan) and importlib.util.find_spec("optuna") is None else []


def journal_of(runs: RunsFolder, plan: Plan) -> Path:
    """The journal of the plan's search: one for equal defaults, ranges, seed and guardrail.

    A plan that is submitted again goes on with it, and an edited one has another.
    """
    facts = {
        "defaults": identity_facts(plan.defaults, {})["settings"],
        "sets": asdict(plan.defaults.data),
        "model": asdict(plan.defaults.model),
        "search": asdict(plan.search) if plan.search is not None else None,
        "guardrail": [plan.gate.heldout_regression, plan.gate.unit],
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return runs.search_journal(hashlib.sha256(text.encode()).hexdigest()[:16])


# What was drawn, as everybody reads it


class _Line(msgspec.Struct, gc=False):
    op_code: int
    study_id: int | None = None
    trial_id: int | None = None
    user_attr: dict[str, Any] | None = None


_LINES = msgspec.json.Decoder(_Line)


def drawn_by(runs: RunsFolder, plan: Plan) -> Draws:
    """What the plan's search has drawn so far; nothing of a journal that is none."""
    if not learns(plan) or plan.search is None:
        return {}
    root, path = _real(runs.root, journal_of(runs, plan))
    try:
        with _reading(root, path) as file:
            now = stamp(os.fstat(file.fileno()))
        written = _written(root, path, now)
    except OSError:
        return {}
    told = ((number, within(plan.search, values)) for number, values in written)
    found: dict[int, Mapping[str, Any]] = {}
    for number, values in told:
        if values is not None:
            found.setdefault(number, values)  # a trial is written down once
    return found


def _real(root: Path, path: Path) -> tuple[Path, Path]:
    """The runs folder, which may be a link to another disk, and a path in it, where they are."""
    real = Path(os.path.realpath(root))
    return real, real / path.relative_to(root)


@contextmanager
def _reading(root: Path, path: Path) -> Iterator[io.BufferedReader[io.FileIO]]:
    """The journal for reading. OSError also for a link on the way to it from `root`, as for whoever writes it."""
    with opened(root, path.parent) as at, io.BufferedReader(open_raw(path, at=at)) as file:
        yield file


@lru_cache(maxsize=16)
def _written(root: Path, path: Path, _stamp: tuple[int, ...]) -> tuple[tuple[int, Any], ...]:
    """(number of a draw, what is written of its values), of each trial of the first study, as Optuna counts them."""
    found: list[tuple[int, Any]] = []
    numbers: list[int | None] = []
    count = 0
    with _reading(root, path) as file:
        check_size(file, path, JOURNAL_BYTES)
        for raw in lines(file):
            try:
                line = _LINES.decode(raw)
            except (msgspec.MsgspecError, RecursionError):
                continue
            attribute = line.user_attr or {}
            if line.op_code == _CREATE_TRIAL:
                count += line.study_id == 0
                numbers.append(count if line.study_id == 0 else None)
            elif line.op_code == _SET_ATTRIBUTE and _DRAWN in attribute and line.trial_id is not None:
                number = numbers[line.trial_id] if 0 <= line.trial_id < len(numbers) else None
                if number is not None:
                    found.append((number, attribute[_DRAWN]))
    return tuple(found)


def within(space: SearchSpace, values: Any) -> dict[str, Any] | None:
    """The values of a draw as the plan's keys have them; None unless there is one of each range, and within it."""
    if not isinstance(values, dict) or values.keys() != space.ranges.keys():
        return None
    found = {key: _value(wanted, values[key]) for key, wanted in space.ranges.items()}
    return None if None in found.values() else found


def _value(wanted: Range, value: Any) -> Any:
    if wanted.kind == "choices":
        given = json.dumps(value)
        return next((one for one in wanted.values if json.dumps(one) == given), None)
    if isinstance(value, bool) or not isinstance(value, int if wanted.whole else (int, float)):
        return None
    return value if wanted.low <= value <= wanted.high else None


# What came of a draw, as the search is told it


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a drawn row."""

    state: Literal["complete", "pruned", "failed"]
    gain: float = 0.0
    """Points of the error rate, on the set that candidates are chosen on, or on domain."""
    rise: float = 0.0
    """Likewise, on the heldout half of it, or on heldout: at most the guardrail's is feasible."""
    step: int = 0
    """Of a pruned one: how far it came."""


FAILED = Result("failed")
"""It says nothing of its settings' worth; Optuna leaves it out."""


def result_of(evidence: Evidence, verdict: Verdict, outcome: str) -> Result:
    """What a drawn run that ended is worth to the search. `outcome`: how it ended, as `RunStatus` has it.

    Where candidates are chosen on selection sets, gain and rise are the shipped candidate's there, so that the search
    learns nothing from the sets that verdicts are passed on; else they are those of the tuned scores. A run that its
    own early stop ended is told as pruned, with those of its last interval.
    """
    if evidence.contradiction or evidence.unproven:
        return FAILED
    if outcome == "stopped_early":
        return _pruned(evidence)
    if outcome != "done":
        return FAILED
    if (choice := evidence.choice) is not None:
        standing = next((one for one in choice.standings if one.name == choice.name), None)
        gain, rise = (None, None) if standing is None else (standing.gain_pp, standing.rise_pp)
    else:
        gain, rise = (verdict.criterion(name).value for name in ("domain_gain", "heldout"))
    if gain is None or rise is None or not (math.isfinite(gain) and math.isfinite(rise)):
        return FAILED
    return Result("complete", gain, rise)


def _pruned(evidence: Evidence) -> Result:
    ordered = sorted(evidence.intervals, key=lambda one: one.step)
    if len(ordered) < 2 or ordered[0].step != 0:
        return FAILED
    (before_gain, before_rise), (gain, rise) = _rates(ordered[0]), _rates(ordered[-1])
    if before_gain is None or before_rise is None or gain is None or rise is None:
        return FAILED
    return Result("pruned", before_gain - gain, rise - before_rise, ordered[-1].step)


def _rates(interval: Interval) -> tuple[float | None, float | None]:
    """Error rates in points on the sets that the search goes by."""
    apart = interval.selection is not None and interval.selection_heldout is not None
    gain, guard = (interval.selection, interval.selection_heldout) if apart else (interval.domain, interval.heldout)
    rates = [None if score is None else wer_points(score.counts) for score in (gain, guard)]
    first, second = (None if rate is None else float(rate) for rate in rates)
    return first, second


# The search itself, which only the supervisor asks


def draw(
    runs: RunsFolder, plan: Plan, results: Mapping[int, Result], is_new: Callable[[Mapping[str, Any]], bool]
) -> bool:
    """Tell the search what became of its draws, by number, and let it draw one more; whether it drew a new one.

    `is_new`: whether values make a row that is not there. UserError: Optuna is missing, or the journal is none.
    """
    if missing := lacking(plan):
        raise UserError(missing[0])
    path, space = journal_of(runs, plan), plan.search or SearchSpace()
    known = drawn_by(runs, plan)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            number = _drawn_next(_File(runs.root, path), space, plan.gate.heldout_regression, known, results, is_new)
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever Optuna makes of lines that it did not write
        said = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise RunFolderError(f"{path}: is no journal of this search ({said}): {_ANEW}") from error
    if number is not None and number not in drawn_by(runs, plan):
        raise RunFolderError(f"{path}: is no journal of this search (a draw is not read as it was written): {_ANEW}")
    return number is not None


def _drawn_next(
    file: _File,
    space: SearchSpace,
    guardrail: float,
    known: Draws,
    results: Mapping[int, Result],
    is_new: Callable[[Mapping[str, Any]], bool],
) -> int | None:
    """The number of the new draw; None: there is none.

    How many trials repeated rows since the last draw is told by the journal, so that a supervisor that was killed
    between them comes to the same draw.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(file)
    study = optuna.create_study(
        storage=storage, study_name=_STUDY, direction="maximize", load_if_exists=True, sampler=_sampler(space, 0)
    )
    if study._study_id != 0:  # of which alone draws are read
        raise RunFolderError(f"{file.path}: is no journal of this search (it holds another study): {_ANEW}")
    states = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False):
        if trial.state is states.RUNNING:
            _tell(study, trial, known, results, guardrail)
    distributions = {key: _distribution(wanted) for key, wanted in space.ranges.items()}
    for _ in range(_TRIES + 1):
        number = len(study.get_trials(deepcopy=False)) + 1
        study.sampler = _sampler(space, number)
        if number - 1 - max(known, default=0) >= _TRIES:
            fixed = next(filter(is_new, _candidates(space, number)), None)
            if fixed is None:
                return None
            chosen = {key for key, wanted in space.ranges.items() if wanted.kind == "choices"}
            words = {key: short(value) if key in chosen else value for key, value in fixed.items()}
            study.sampler = optuna.samplers.PartialFixedSampler(words, study.sampler)
        asked = study.ask(distributions)
        values = {key: _chosen(wanted, asked.params[key]) for key, wanted in space.ranges.items()}
        if asked.number + 1 not in known and within(space, json.loads(json.dumps(values))) and is_new(values):
            asked.set_user_attr(_DRAWN, values)
            return int(asked.number) + 1
        study.tell(asked, state=states.FAIL)
    return None


def _candidates(space: SearchSpace, number: int) -> Iterator[dict[str, Any]]:
    """Values for a draw at random, by seed and number: each of a small space once, else independent ones."""
    every = [_every(wanted) for wanted in space.ranges.values()]
    if not 0 < math.prod(map(len, every)) <= _CANDIDATES:
        yield from (draw_at_random(space, number * _CANDIDATES + n) for n in range(_CANDIDATES))
        return
    chance = Random(f"{space.seed}/{number}")
    for values in sorted(product(*every), key=lambda _: chance.random()):
        yield dict(zip(space.ranges, values, strict=True))


def _every(wanted: Range) -> Sequence[Any]:
    """All values of a range; nothing for one of real numbers."""
    if wanted.kind == "choices":
        return wanted.values
    return range(int(wanted.low), int(wanted.high) + 1) if wanted.whole else ()


def _sampler(space: SearchSpace, number: int) -> Any:
    """Seeded for one draw, so that it does not matter how often the supervisor was started."""
    import optuna

    digest = hashlib.sha256(f"{space.seed}/{number}".encode()).digest()
    return optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4], "big"))


def _tell(study: Any, trial: Any, known: Draws, results: Mapping[int, Result], guardrail: float) -> None:
    """Of a trial that runs by the journal: what became of its row; one that was never written down has failed."""
    import optuna

    number = trial.number + 1
    result = results.get(number) if number in known else FAILED
    if result is None:
        return  # its row has not ended
    states = optuna.trial.TrialState
    if result.state == "failed":
        study.tell(trial.number, state=states.FAIL)
        return
    live = optuna.trial.Trial(study, trial._trial_id)
    if not trial.constraints:
        live.set_constraint("guardrail", result.rise - guardrail)
    if result.state == "pruned":
        live.report(result.gain, result.step)
        study.tell(trial.number, state=states.PRUNED)
    else:
        study.tell(trial.number, result.gain)


def _distribution(wanted: Range) -> Any:
    import optuna.distributions as kinds

    if wanted.kind == "choices":
        return kinds.CategoricalDistribution(list(_words(wanted)))
    logarithmic = wanted.kind == "log_uniform"
    if wanted.whole:
        return kinds.IntDistribution(int(wanted.low), int(wanted.high), log=logarithmic)
    return kinds.FloatDistribution(wanted.low, wanted.high, log=logarithmic)


def _words(wanted: Range) -> dict[str, Any]:
    """Choices by how they are written, since Optuna takes no lists: it has their order for none."""
    return {short(value): value for value in wanted.values}


def _chosen(wanted: Range, drawn: Any) -> Any:
    return _words(wanted)[drawn] if wanted.kind == "choices" else rounded(wanted, drawn)


class _File:
    """Optuna's journal in a file of the runs folder: the format of its own JournalFileBackend.

    That one would follow a link, wait half a minute for the lock of a supervisor that was killed, and choke on a torn
    line. Lines are appended whole, as decisions are, and what is read is bounded.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self._root, self._path = _real(root, path)
        with open_append(self._root, self._path) as file:
            self._check_room(file, 0)
            cut_torn_line(file)

    def _check_room(self, file: io.FileIO, needed: int) -> None:
        """RunFolderError before the journal grows beyond what is read of one: all draws would vanish with it."""
        if os.fstat(file.fileno()).st_size + needed > JOURNAL_BYTES:
            # not as an OSError: that a file is too large also says that a disk's limit is reached
            raise RunFolderError(
                f"{self.path}: has no room for a draw, since at most {JOURNAL_BYTES >> 20} MiB are read: {_ANEW}"
            )

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The lines from that number on."""
        with _reading(self._root, self._path) as file:
            for number, line in enumerate(lines(file)):
                if number >= log_number_from and line.endswith(b"\n"):
                    yield parse_json(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write them durably. OSError (disk full) leaves the file as it was."""
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with open_append(self._root, self._path) as file:
            self._check_room(file, len(data))
            append_whole(file, data)
            os.fsync(file.fileno())
