"""What the queue does now. Pure: rows, what is known of each, policy and budget in; one action out.

Draws have their turn when the plan is used up, and repeats with other seeds when their run was accepted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from core.plan.conditions import Answer, Condition, Fact, Facts, combined_facts, evaluate, parse_condition
from core.plan.rows import TITLES, matches, short, with_seed
from core.plan.schema import QueueSettings, Row, RunSettings


class RowStatus(Enum):
    """Where a row's run stands, as far as the order of running goes."""

    QUEUED = "queued"
    """Not started, or to be started again (a retry)."""
    RUNNING = "running"
    """Has a slot, or waits to be resumed by the queue itself."""
    DONE = "done"
    """Ended with a result."""
    FAILED = "failed"
    """Ended without one: diverged, out of memory, crashed too often, stopped for good."""
    SKIPPED = "skipped"
    """Its condition was not met."""
    HELD = "held"
    """Somebody keeps it from being started until it is released."""


_NAMED = 3
"""Rows that another one waits for that are named."""
ENDED = (RowStatus.DONE, RowStatus.FAILED, RowStatus.SKIPPED)


@dataclass(frozen=True, slots=True)
class RowState:
    """What is known of a row. Rows that share one run have the same state."""

    status: RowStatus = RowStatus.QUEUED
    facts: Facts = field(default_factory=dict)
    """Of a DONE row; core.plan.conditions has the names. `finished` and `failed` follow from the status."""
    settings: RunSettings | None = None
    """What the run really used, where `adapter_from` changed it; None: the row's own settings."""


def in_turn(rows: Sequence[Row], states: Mapping[str, RowState], queue: QueueSettings) -> list[Row]:
    """The rows that have begun, or may begin as far as search and repeats go."""
    own = [row for row in rows if not row.drawn and row.confirms is None]
    used_up = all(states[row.key].status in ENDED for row in own)
    standing = {row.key: accepted_with_seeds(row, rows, states) for row in rows if row.confirms is None}
    searching = queue.then == "search" and used_up and not any(standing.values())
    # While what a draw brought is repeated, no other one is drawn.
    searching = searching and None not in standing.values()
    found: list[Row] = []
    for row in rows:
        waits = states[row.key].status in (RowStatus.QUEUED, RowStatus.HELD)
        if row.confirms is not None:
            # A seed that was not accepted settles it: the others would be run for nothing.
            once = row.confirms in states and accepted(states[row.confirms])
            if once and not (waits and standing.get(row.confirms) is False):
                found.append(row)
        elif not row.drawn or not waits or searching:
            found.append(row)
    return found


def accepted_with_seeds(row: Row, rows: Sequence[Row], states: Mapping[str, RowState]) -> bool | None:
    """Whether a row was accepted, and so were all its repeats with other seeds; None: some of these are to come."""
    if not accepted(states[row.key]):
        return False
    found = [states[other.key] for other in rows if other.confirms == row.key]
    if any(state.status in ENDED and not accepted(state) for state in found):
        return False
    return True if all(accepted(state) for state in found) else None


def accepted(state: RowState) -> bool:
    """Whether the row's own run was accepted."""
    return state.status is RowStatus.DONE and state.facts.get("accepted") is True


def open_repeats(rows: Sequence[Row], states: Mapping[str, RowState]) -> list[Row]:
    """The repeats among `rows` that have not ended."""
    return [row for row in rows if row.confirms is not None and states[row.key].status not in ENDED]


@dataclass(frozen=True, slots=True)
class Spent:
    """What the plan has used of its budget."""

    runs: int = 0
    """Runs started; resumed ones count once."""
    hours: float = 0.0
    """Training hours, all runs together."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start this row's run with these settings, or take over the finished run that has their identity."""

    row: Row
    settings: RunSettings
    reason: str
    inputs: dict[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skip:
    """Never start this row; ask again for the next action."""

    row: Row
    reason: str
    inputs: dict[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """End the runs of these rows cleanly, so that they can be resumed some day; then wait for their ends."""

    rows: tuple[Row, ...]
    reason: str
    not_run: dict[str, str] = field(default_factory=dict)
    """As of `Finished`, which comes next."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to start until a running run ends, or somebody lets go of what is held."""

    reason: str = ""
    """What every row waits for that has nothing else to wait for; empty: each that is left is named below."""
    over: bool = False
    """Whether nothing is started after that either, whatever becomes of the run: the plan has what it wanted."""
    dependent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Row → the rows that must have ended before it can be decided on."""
    held: tuple[str, ...] = ()
    """Rows that somebody keeps from being started until they are released."""

    @property
    def text(self) -> str:
        """All of it in words."""
        dependent = [f"{row} {waits_for(others)}" for row, others in self.dependent.items()]
        held = f"held until released: {', '.join(self.held)}" if self.held else ""
        return "; ".join(filter(None, (self.reason, *dependent, held)))


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is running and nothing more will be started."""

    reason: str
    not_run: dict[str, str] = field(default_factory=dict)
    """Row key → why it was not run, for the run matrix."""


def waits_for(rows: Sequence[str]) -> str:
    """That a row depends on these, in words: the first few are named, the others counted."""
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"waits for {', '.join(rows[:_NAMED])}{more}"


Action = Start | Skip | Stop | Wait | Finished


@dataclass(frozen=True, slots=True)
class _End:
    """Why nothing more is started, and whether what runs is ended too."""

    reason: str
    stops: bool = False
    final: bool = False
    """Whether a running run that crashes is not resumed."""


def next_action(  # noqa: PLR0911 - one return a case
    rows: Sequence[Row],
    known: Mapping[str, RowState],
    queue: QueueSettings,
    spent: Spent,
    only: Collection[str] | None = None,
    ranks: Mapping[str, float] | None = None,
) -> Action:
    """The next action. `known` is by row key; rows without an entry are queued.

    `ranks`: row key → its place among the rows that could be started; without one it comes at 0, and rows of equal
    places come in the plan's order. `only` limits what is started (experiment ids or row keys). Other rows are never
    started; what is known of them counts in conditions; those that have not ended count as not run.
    """
    wanted = [row for row in rows if only is None or matches(row, only)]
    states = {row.key: known.get(row.key, RowState()) for row in rows}
    places = ranks or {}
    wanted = in_turn(wanted, states, queue)
    queued = [row for row in wanted if states[row.key].status is RowStatus.QUEUED]
    queued.sort(key=lambda row: (row.confirms is None, places.get(row.key, 0.0)))
    held = [row for row in wanted if states[row.key].status is RowStatus.HELD]
    running = [row for row in wanted if states[row.key].status is RowStatus.RUNNING]
    end = _end_of_plan(wanted, states, queue, spent)
    if end is not None:
        not_run = {row.key: end.reason for row in (*queued, *held)}
        if running and end.stops:
            return Stop(tuple(running), end.reason, not_run)
        if running:
            return Wait(f"{end.reason}; waiting for {', '.join(row.key for row in running)} to end", end.final)
        return Finished(end.reason, not_run)

    reason, dependent = "", dict[str, tuple[str, ...]]()
    if queue.until == "accepted" and (repeats := open_repeats(wanted, states)):
        # What was accepted once is probably what the plan is for: first see whether it holds.
        reason = f"{', '.join(dict.fromkeys(str(row.confirms) for row in repeats))} is repeated with other seeds"
        queued = [row for row in queued if row.confirms is not None]
    closed = {row.key for row in rows if states[row.key].status in ENDED}
    never = {row.key for row in rows} - {row.key for row in wanted}
    closed |= {key for key in never if states[key].status in (RowStatus.QUEUED, RowStatus.HELD)}
    for row in queued:
        condition = None if row.when is None else parse_condition(row.when, row.after)
        if open_keys := _open(rows, dependencies(row, condition), closed):
            dependent[row.key] = open_keys
            continue
        if condition is None:
            return _start(row, rows, states, _why_now(row), {})
        answer = evaluate(condition, _experiment_facts(rows, states))
        if answer.value is True:
            return _start(row, rows, states, f"its condition holds: {row.when}", answer.inputs)
        return Skip(row, _skip_reason(row, answer), answer.inputs)
    if held or any(state.status is RowStatus.RUNNING for state in states.values()):
        return Wait(reason, dependent=dependent, held=tuple(row.key for row in held))
    # The reader refuses cycles; a hand-made plan with one ends here instead of waiting for ever.
    return Finished("the rows left wait for each other", {row.key: "waits in a circle" for row in queued})


def dependencies(row: Row, condition: Condition | None = None) -> tuple[str, ...]:
    """The experiments that must have ended before this row can be decided on."""
    named = () if condition is None else condition.experiments
    return tuple(dict.fromkeys((*row.after, *named, *row.adapter_from)))


def resolved_settings(row: Row, rows: Sequence[Row], known: Mapping[str, RowState]) -> tuple[RunSettings, str]:
    """The row's settings with `adapter_from` resolved, and a sentence on where the architecture came from.

    The best row: the largest `domain_gain` of those that kept the heldout guardrail; where none did, the
    lowest tuned `domain_wer`; where no row has a result, the row's own `target_modules`. A repeat has
    what the row that it repeats really used.
    """
    if row.confirms is not None:
        used = known.get(row.confirms, RowState()).settings
        return (row.settings if used is None else with_seed(used, row.settings.train.seed)), ""
    if not row.adapter_from:
        return row.settings, ""
    done = [
        (other, known[other.key])
        for other in rows
        if other.experiment in row.adapter_from
        and other.confirms is None
        and known.get(other.key, RowState()).status is RowStatus.DONE
    ]
    kept = [(r, s) for r, s in done if s.facts.get("guardrail_broken") is False]
    best = max(kept, key=lambda pair: _known(pair[1].facts.get("domain_gain"), -1e9), default=None)
    if best is not None and best[1].facts.get("domain_gain") is not None:
        why = f"domain gain {best[1].facts['domain_gain']:.2f} points, guardrail kept"
    else:
        scored = [(r, s) for r, s in done if s.facts.get("domain_wer") is not None]
        best = min(scored, key=lambda pair: _known(pair[1].facts.get("domain_wer"), 1e9), default=None)
        if best is None:
            return (
                row.settings,
                f"no run of {', '.join(row.adapter_from)} has a result: target modules as in the plan",
            )
        why = f"domain error rate {best[1].facts['domain_wer']:.2f} %, no run kept the guardrail"
    other, state = best
    modules = (state.settings or other.settings).adapter.target_modules
    settings = replace(row.settings, adapter=replace(row.settings.adapter, target_modules=modules))
    return settings, f"target modules {short(modules)} from {other.key} ({why})"


def row_facts(state: RowState) -> dict[str, Fact]:
    """The facts of one row, with those that follow from its status."""
    ended = state.status in ENDED
    facts: dict[str, Fact] = dict(state.facts)
    facts["finished"] = state.status is RowStatus.DONE if ended else None
    facts["failed"] = state.status is RowStatus.FAILED if ended else None
    if ended and facts.get("accepted") is None:
        facts["accepted"] = False  # undecided, failed or never run: known not to be accepted
    return facts


def _known(value: Fact, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _end_of_plan(
    wanted: Sequence[Row], states: Mapping[str, RowState], queue: QueueSettings, spent: Spent
) -> _End | None:
    """Why nothing more is to be started; None to go on."""
    if queue.until == "accepted":
        found = [row.key for row in wanted if row.confirms is None and accepted_with_seeds(row, wanted, states)]
        if found:
            return _End(f"{found[0]} was accepted", queue.on_accept == "stop", final=True)
    hours = (
        f"the budget of {queue.max_hours:g} hours (queue.max_hours) is used up"
        if spent.hours >= queue.max_hours
        else ""
    )
    statuses = {states[row.key].status for row in wanted}
    if not statuses & {RowStatus.QUEUED, RowStatus.HELD}:
        if RowStatus.RUNNING not in statuses:
            drawn = any(row.drawn for row in wanted) and not any(accepted(states[row.key]) for row in wanted)
            return _End("every row of the plan has ended" + (", and [search] has no other rows" if drawn else ""))
        return _End(hours, True) if hours else _End("nothing is left to start")
    if spent.runs >= queue.max_runs:
        return _End(f"the budget of {queue.max_runs} runs (queue.max_runs) is used up", bool(hours))
    return _End(hours, True) if hours else None


def _open(rows: Sequence[Row], experiments: Sequence[str], closed: Collection[str]) -> tuple[str, ...]:
    return tuple(row.key for row in rows if row.experiment in experiments and row.key not in closed)


def _experiment_facts(rows: Sequence[Row], states: Mapping[str, RowState]) -> dict[str, dict[str, Fact]]:
    by_experiment: dict[str, list[dict[str, Fact]]] = {}
    for row in rows:
        if row.confirms is not None:
            continue
        facts = row_facts(states[row.key])
        if facts.get("accepted") is True:
            facts["accepted"] = accepted_with_seeds(row, rows, states)
        by_experiment.setdefault(row.experiment, []).append(facts)
    return {experiment: combined_facts(facts) for experiment, facts in by_experiment.items()}


def _start(
    row: Row, rows: Sequence[Row], states: Mapping[str, RowState], reason: str, inputs: dict[str, Fact]
) -> Start:
    settings, origin = resolved_settings(row, rows, states)
    return Start(row, settings, f"{reason}; {origin}" if origin else reason, inputs)


def _why_now(row: Row) -> str:
    if row.confirms is not None:
        return f"{row.confirms} was accepted: again with seed {row.settings.train.seed}"
    if row.drawn:
        how = "a random draw" if row.title == TITLES["random"] else "drawn by what the runs before it gave"
        return f"the plan is used up and nothing was accepted: {how}"
    return "in the plan's order"


def _skip_reason(row: Row, answer: Answer) -> str:
    inputs = ", ".join(f"{name} = {_word(value)}" for name, value in answer.inputs.items())
    if answer.value is None:
        return f"its condition cannot be decided ({row.when}): {inputs}"
    return f"its condition does not hold ({row.when}): {inputs}"


def _word(value: Fact) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}"
