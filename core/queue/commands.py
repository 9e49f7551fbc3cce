"""What people ask of the queue: one function a verb, for the command line and for the keys of the dashboard.

Each looks at the queue once, asks, and returns what it did; faces word that. Nothing here waits for a trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from core.errors import RunFolderError, UserError
from core.plan.schema import RunSettings
from core.queue import SUPERVISOR_COMMAND
from core.queue.client import QueueClient
from core.queue.journal import records
from core.queue.prune import Pruned, prunable, prune
from core.queue.requests import QueueDb, RowRequests, Submission, Target
from core.queue.rows import QueueRows, queue_rows, target_of
from core.queue.state import QueueState
from core.runs.documents import read_result
from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Row
from core.runs.status import Status
from core.system.files import exists

STOPPED = "stopped on request: `lora-tui queue release` goes on from there"
KILLED = "killed on request: `lora-tui queue release` goes on from its last checkpoint"
NOT_STARTED = "{} on request before it was started: `lora-tui queue release` lets it start"
HELD = "held on request"
"""Why rows are held then."""
Confirm = Callable[[str], bool]
"""Whether somebody means it, who is told what."""


class Effect(Enum):
    """What became of one row, or of one submission."""

    QUEUED = auto()
    QUEUED_ALREADY = auto()
    HELD = auto()
    RELEASED = auto()
    NOT_HELD = auto()
    """There was nothing to release; it stays as it is."""
    MOVED = auto()
    STOPPING = auto()
    """Its trainer finishes the step and saves; a row is held then."""
    KILLING = auto()
    """Its trainer is ended at once; a row is held then."""
    NOT_TRAINING = auto()
    """It was to be stopped or killed and does not train: it is held."""
    NOT_STARTED = auto()
    """The same of a row whose run was never begun."""
    ENDED = auto()
    """What was asked came too late."""
    RETRIED = auto()
    REMOVED = auto()
    REMOVED_ALREADY = auto()

    @property
    def taken(self) -> bool:
        """Whether anything was asked of the queue."""
        return self not in (Effect.NOT_HELD, Effect.ENDED, Effect.REMOVED_ALREADY)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a verb did. Rows that share a run with one that was meant are among them."""

    effects: Mapping[Target, Effect]
    rows: Mapping[Target, Row] = field(default_factory=dict)
    """The rows as they were before."""
    elsewhere: tuple[Row, ...] = ()
    """Rows of other submissions that want a run which was to end, and go on with it."""
    removed_before: tuple[str, ...] = ()
    """Rows that somebody had removed, and that are queued again with their plan."""


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What `prune` did."""

    looked_at: int
    """Run folders that were meant."""
    pruned: Mapping[str, Pruned]
    """Run folder → what became of it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows somebody means."""

    names: Sequence[str] = ()
    """Row keys, experiments, run folders, identities or submissions."""
    target: Target | None = None
    """One row, instead."""
    everything: bool = False

    def among(self, rows: Sequence[Row]) -> list[Row]:
        """Those rows. RunFolderError: something is not in the queue."""
        if self.everything:
            if not rows:
                raise RunFolderError("--all: not in the queue, which has nothing; `lora-tui queue list` shows it")
            return list(rows)
        if self.target is None:
            return named(rows, self.names)
        found = [row for row in rows if target_of(row) == self.target]
        if not found:
            raise RunFolderError(f"{self.target.row} is not in the queue any more")
        return found

    def whole_submissions(self, rows: Sequence[Row]) -> list[str]:
        """The submissions that are meant as such."""
        ids = dict.fromkeys(row.queued.submission for row in rows)
        return [name for name in ids if self.everything or name in self.names]


def named(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows of the queue that `names` mean. RunFolderError names what is not in the queue."""
    found: list[Row] = []
    for name in names:
        hits = [row for row in rows if name in _names(row)]
        if not hits:
            known = ", ".join(dict.fromkeys(row.key for row in rows)) or "nothing"
            raise RunFolderError(f"{name}: not in the queue, which has {known}; `lora-tui queue list` shows it")
        found += [row for row in hits if row not in found]
    return found


def with_sharers(rows: Sequence[Row], chosen: Sequence[Row]) -> list[Target]:
    """What a request for the runs of `chosen` must name: rows that share one would else go on with it at once."""
    runs = {row.run.name for row in chosen if row.run is not None}
    makings = {_made_of(row) for row in chosen} - {None}
    of_no_run = {_made_of(row) for row in chosen if row.run is None} - {None}

    def shares(row: Row) -> bool:
        if row.run is None:
            return _made_of(row) in makings
        return row.run.name in runs or _made_of(row) in of_no_run

    sharers = [row for row in rows if row.status is not Status.DONE and shares(row)]
    return list(dict.fromkeys(target_of(row) for row in (*chosen, *sharers)))


class Commands:
    """The verbs. Those after which something may have to be started see to it that a supervisor is at work."""

    def __init__(self, runs: RunsFolder, command: Sequence[str] = SUPERVISOR_COMMAND) -> None:
        """`command` starts a supervisor."""
        self._runs = runs
        self._db = QueueDb(runs.queue_db)
        self._client = QueueClient(runs, command)

    def submit(self, submission: Submission) -> CommandResult:
        """Queue a plan: all of its rows, also those that somebody removed while it was queued already."""
        gone = self._state().removed_rows(submission.plan_path)
        before = {target_of(row) for row in self._rows().rows if row.status is Status.REMOVED}
        queued = self._db.submit(submission, removed_again=True)
        self._client.ensure_supervisor()
        new = queued.id == submission.id
        mine = [row for row in self._rows().rows if row.queued.submission == queued.id] if gone or before else []
        again = tuple(row.key for row in mine if (row.key in gone if new else target_of(row) in before))
        effect = Effect.QUEUED if new else Effect.QUEUED_ALREADY
        return CommandResult({Target(queued.id): effect}, removed_before=again)

    def hold(self, selection: Selection) -> CommandResult:
        """Rows are not started until they are released. UserError: what is meant trains or is done."""
        rows = self._rows().rows
        named_ones = selection.among(rows)
        chosen = [row for row in named_ones if not row.active and row.status is not Status.DONE]
        if not chosen:
            raise UserError(
                f"nothing to hold: {_told(named_ones)}; what is training can be stopped (`lora-tui queue stop`)"
            )
        targets = with_sharers(rows, chosen)
        self._db.ask("hold", targets, HELD)
        return _done(rows, dict.fromkeys(targets, Effect.HELD))

    def release(self, selection: Selection) -> CommandResult:
        """Held rows may start; all of them: a queue that paused goes on, too. UserError: their submission ends."""
        rows = self._rows().rows
        chosen = selection.among(rows)
        going = [row for row in chosen if not row.queued.ending]
        if not selection.everything and not going:
            raise UserError(
                f"nothing to release: {_keys(chosen)} ends as asked; `lora-tui queue add PLAN` goes on with it"
            )
        held = {Target(name, row) for name, requested in self._db.snapshot().rows.items() for row in requested.held}
        targets = [target for target in with_sharers(rows, going) if target in held]
        whole = [Target(row.queued.submission) for row in going] if selection.everything else []
        if targets or whole:
            self._db.ask("release", [*targets, *dict.fromkeys(whole)])
        self._client.ensure_supervisor()
        effects = dict.fromkeys(targets, Effect.RELEASED)
        if not selection.everything:
            effects |= {target_of(row): Effect.NOT_HELD for row in going if target_of(row) not in held}
        return _done(rows, effects)

    def go_on(self) -> CommandResult:
        """A queue that paused by itself goes on; rows that are held stay so."""
        whole = [Target(submission.id) for submission in self._db.open_submissions()]
        self._db.ask("release", whole)
        self._client.ensure_supervisor()
        return CommandResult(dict.fromkeys(whole, Effect.RELEASED))

    def move(self, selection: Selection, *, first: bool = False, before: str | None = None) -> CommandResult:
        """Another order of starting: of rows in their submission, or of submissions. To the end, unless it is said."""
        queue = self._rows()
        ids = [submission.id for submission in queue.submissions]
        if selection.names and set(selection.names) <= set(ids):
            self._db.reorder_submissions(_order(ids, selection.names, first=first, before=before))
            return CommandResult({Target(name): Effect.MOVED for name in selection.names})
        chosen = selection.among(queue.rows)
        if len({row.queued.submission for row in chosen}) != 1:
            raise UserError("move takes rows of one submission at a time, or submissions: name some")
        submission = chosen[0].queued.submission
        keys = [row.key for row in queue.rows if row.queued.submission == submission]
        self._db.reorder(submission, _order(keys, [row.key for row in chosen], first=first, before=before))
        return _done(queue.rows, {target_of(row): Effect.MOVED for row in chosen})

    def move_by(self, selection: Selection, places: int) -> CommandResult:
        """A row so many places later among those that wait: what has started is not waited for, nor passed."""
        rows = self._rows().rows
        [row] = selection.among(rows)
        others = [other for other in rows if other.queued.submission == row.queued.submission]
        keys = [other.key for other in others]
        waiting = [i for i, other in enumerate(others) if not other.active and other.status is not Status.DONE]
        here = keys.index(row.key)
        if here not in waiting:
            raise UserError(f"{_told([row])}: only what waits can be moved")
        place = waiting.index(here) + places
        if not 0 <= place < len(waiting):
            raise UserError(f"{row.key} is {'first' if places < 0 else 'last'} already")
        keys.remove(row.key)
        keys.insert(waiting[place], row.key)
        self._db.reorder(row.queued.submission, keys)
        return _done(rows, {target_of(row): Effect.MOVED})

    def stop(self, selection: Selection, confirm: Confirm | None = None) -> CommandResult | None:
        """Trainers finish their step and save. Submissions that are meant as a whole are closed then, rows are held.

        A row that does not train is held, too: it would else be started in the next moment. None: nobody is sure.
        """
        return self._end("stop", selection, confirm)

    def kill(self, selection: Selection, confirm: Confirm | None = None) -> CommandResult | None:
        """The same; trainers end at once, and what was saved last can be resumed."""
        return self._end("kill", selection, confirm)

    def _end(self, kind: str, selection: Selection, confirm: Confirm | None) -> CommandResult | None:
        queue = self._rows()
        if selection.everything and queue.submissions:
            chosen, whole = list(queue.rows), [submission.id for submission in queue.submissions]
        else:
            chosen = selection.among(queue.rows)
            whole = selection.whole_submissions(chosen)
        single = [row for row in chosen if row.queued.submission not in whole and row.status is not Status.DONE]
        if not whole and not single:
            raise UserError(f"nothing to {kind}: what is named has ended")
        if confirm is not None:
            if not confirm(f"{kind} {_keys(chosen)}"):
                return None
            queue = self._rows()  # the question may have stood there for long
        rows = queue.rows
        effects = dict.fromkeys(map(Target, whole), Effect.STOPPING if kind == "stop" else Effect.KILLING)
        known = {target_of(row): row for row in rows}
        for target in with_sharers(rows, single):
            effects[target] = _effect_of_end(kind, known.get(target))
        begun = [target for target, effect in effects.items() if target.row and effect is not Effect.NOT_STARTED]
        fresh = [target for target, effect in effects.items() if effect is Effect.NOT_STARTED]
        late = self._db.ask(kind, list(map(Target, whole)))
        late += self._db.ask(kind, begun, held=STOPPED if kind == "stop" else KILLED)
        late += self._db.ask(kind, fresh, held=NOT_STARTED.format("stopped" if kind == "stop" else "killed"))
        self._client.ensure_supervisor()
        effects |= dict.fromkeys(late, Effect.ENDED)
        ending = {row.run for row in chosen if row.queued.submission in whole}
        return _done(rows, effects, self._elsewhere(rows, whole, ending))

    def _elsewhere(self, rows: Sequence[Row], whole: Sequence[str], runs: Collection[object]) -> tuple[Row, ...]:
        """Rows of other submissions that want one of these runs, which were to end with theirs."""
        requests = self._db.snapshot().rows if whole else {}
        found = []
        for row in rows:
            requested = requests.get(row.queued.submission, RowRequests())
            away = (
                row.queued.submission in whole or row.queued.ending or row.key in {*requested.held, *requested.removed}
            )
            if whole and row.active and row.run in runs and not row.queued.asked and not away:
                found.append(row)
        return tuple(found)

    def retry(self, selection: Selection) -> CommandResult:
        """Once more, whatever became of it: also rows of submissions that the queue has closed, by their names.

        UserError: what is named is done, at work, or waits for its turn. RunFolderError: nobody ever queued it.
        """
        rows = self._rows().rows
        going = [row for row in rows if not row.queued.ending]
        if selection.everything and not self._runs.queue_db.exists():
            raise RunFolderError(f"--all: nothing to try again: {self._runs.root} has no queue")
        targets: list[Target] = []
        late: list[Target] = []
        each = [Selection([name]) for name in selection.names] if selection.target is None else [selection]
        for one in [Selection(target=target_of(row)) for row in going] if selection.everything else each:
            try:
                found = one.among(rows)
            except RunFolderError:
                targets.append(self._submit_again(selection.names[0] if one.target else one.names[0]))
                continue
            hits = [row for row in found if row.retriable and not row.queued.ending]
            ending = [target_of(row) for row in found if row.queued.ending and row.status is not Status.DONE]
            if not hits and not ending and not selection.everything:
                raise UserError(f"nothing to try again: {_told(found)}")
            targets += with_sharers([row for row in going if row.status is not Status.REMOVED], hits)
            late += [] if hits or selection.everything else ending
        late += self._db.ask("retry", list(dict.fromkeys(targets)))
        made = {target_of(row): row.run or (row.wanted and row.wanted.settings) for row in rows}
        once = {made.get(target, target): target for target in late}  # rows that share a run: one of them is enough
        targets = [target for target in targets if target not in late]
        targets += [again for target in once.values() if (again := self._row_again(target)) is not None]
        self._client.ensure_supervisor()
        return _done(rows, dict.fromkeys(targets, Effect.RETRIED))

    def _submit_again(self, name: str) -> Target:
        """Queue the newest submission that had a row or run of this name once more, for that row only.

        RunFolderError: no submission had one. UserError: its run is done.
        """
        for submission, row, run in self._state().rows_called(name):
            if run is not None and read_result(RunPaths(self._runs.root / run))[0] is not None:
                raise UserError(f"{name}: nothing to try again: it is done ({run})")
            found = self._row_again(Target(submission, row))
            if found is not None:
                return found
        raise RunFolderError(
            f"{name}: no plan that the queue had holds it; submit its plan (`lora-tui queue add PLAN`)"
        )

    def _row_again(self, target: Target) -> Target | None:
        """Queue a plan once more, for one of its rows. None: the file does not know the submission."""
        earlier, row = self._db.submission(target.submission), str(target.row)
        if earlier is None:
            return None
        again = Submission.create(Path(earlier.plan_path), earlier.plan_text, earlier.overrides, [row])
        return Target(self._db.submit(again, retry=[row]).id, row)

    def remove(self, selection: Selection, confirm: Confirm | None = None) -> CommandResult | None:
        """Rows leave the queue; run folders stay. UserError: something is at work. None: nobody is sure."""
        rows = self._rows().rows
        chosen = [row for row in selection.among(rows) if row.status is not Status.DONE]
        _check_idle(chosen)
        if not chosen:
            raise UserError("nothing to remove: what is named is done; `lora-tui queue prune` frees disk space")
        if confirm is not None:
            if not confirm(f"remove {_keys(chosen)} from the queue"):
                return None
            rows = self._rows().rows
            _check_idle([row for row in rows if target_of(row) in set(map(target_of, chosen))])  # while it stood there
        effects = {
            target_of(row): Effect.REMOVED_ALREADY if row.status is Status.REMOVED else Effect.REMOVED for row in chosen
        }
        self._db.ask("remove", [target for target, effect in effects.items() if effect is Effect.REMOVED])
        return _done(rows, effects)

    def prune(
        self, names: Collection[str], confirm: Confirm, *, everything: bool, adapters: bool
    ) -> PruneResult | None:
        """Delete what ended runs (by folder, identity or experiment) need no more. None: nobody is sure.

        `adapters`: those of intervals that are neither the best nor the last, too. RunFolderError: there is none.
        """
        folders = self._runs.runs()
        selection = [run for run in folders if everything or {run.name, *_halves(run)} & set(names)]
        if not selection and not everything:
            raise RunFolderError(f"{', '.join(names)}: no such run in {self._runs.root}")
        found = [item for item in (prunable(run, adapters=adapters) for run in selection) if item is not None]
        size = sum(item.size for item in found)
        if found and not confirm(f"delete {size / 1e6:.1f} MB from {len(found)} run folders"):
            return None
        done = {item.run.name: pruned for item in found if (pruned := prune(self._runs, item)) is not None}
        return PruneResult(len(selection), done)

    def _rows(self) -> QueueRows:
        return queue_rows(self._runs)

    def _state(self) -> QueueState:
        return QueueState(records(self._runs.decisions))


def _done(rows: Sequence[Row], effects: Mapping[Target, Effect], elsewhere: tuple[Row, ...] = ()) -> CommandResult:
    return CommandResult(effects, {target_of(row): row for row in rows if target_of(row) in effects}, elsewhere)


def _effect_of_end(kind: str, row: Row | None) -> Effect:
    if row is not None and row.active:
        return Effect.STOPPING if kind == "stop" else Effect.KILLING
    begun = row is not None and row.run is not None and exists(row.run.events)
    return Effect.NOT_TRAINING if begun else Effect.NOT_STARTED


def _check_idle(rows: Sequence[Row]) -> None:
    if busy := [row.key for row in rows if row.active]:
        raise UserError(f"{', '.join(busy)} is at work: `lora-tui queue stop` it first")


def _order(keys: Sequence[str], moved: Sequence[str], *, first: bool, before: str | None) -> list[str]:
    rest = [key for key in keys if key not in moved]
    if before is None:
        return [*moved, *rest] if first else [*rest, *moved]
    if before not in rest:
        raise UserError(f"--before {before}: not there to move before; there is {', '.join(rest) or 'nothing'}")
    place = rest.index(before)
    return [*rest[:place], *moved, *rest[place:]]


def _made_of(row: Row) -> tuple[Path, RunSettings] | None:
    """What makes rows one run, before their runs are known; None: that depends on the results of others."""
    plan = Path(row.queued.plan_path)  # its folder: manifests are named from there
    return None if row.wanted is None or row.wanted.adapter_from else (plan.parent, row.wanted.settings)


def _names(row: Row) -> tuple[str, ...]:
    run = () if row.run is None else (row.run.name, row.run.name.rpartition("-")[2])
    return (row.key, row.experiment, row.queued.submission, *run)


def _halves(run: RunPaths) -> tuple[str, str]:
    experiment, _, identity = run.name.rpartition("-")
    return experiment, identity


def _keys(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(row.key for row in rows))


def _told(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(f"{row.key} is {row.status.text}" for row in rows))
