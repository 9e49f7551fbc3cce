"""What the queue holds, row by row, for whoever wants to list it or to name a part of it. Only reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from core.errors import PlanError, RunFolderError
from core.plan.expand import matches
from core.plan.read import parse_plan
from core.plan.rows import all_rows, shown
from core.plan.schema import Row
from core.queue.decisions import Decision, decisions_about
from core.queue.wishes import QueueDb, RowWishes, Submission, Target
from core.runs.paths import RunPaths, RunsFolder
from core.runs.process import identity_from_json, is_alive
from core.runs.snapshot import RunState
from core.runs.store import read_run, state_and_reason


class EntryState(StrEnum):
    """States that only the queue knows; a row with a run has a RunState's value."""

    QUEUED = "queued"
    WAITING = "waiting"
    """As queued, and the queue has said why it does not start."""
    HELD = "held"
    REMOVED = "removed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of an open submission."""

    submission: Submission
    row: Row
    state: str
    reason: str = ""
    """Why it waits, is held, or does not run; where it runs."""
    run: RunPaths | None = None

    @property
    def target(self) -> Target:
        """What a wish for this row names."""
        return Target(self.submission.id, self.row.key)

    @property
    def active(self) -> bool:
        """Whether a trainer works on it."""
        return self.run is not None and self.state in _ACTIVE


_ACTIVE = frozenset(state.value for state in RunState if state.active)


@dataclass(frozen=True, slots=True)
class Listing:
    """The open submissions in the order of working, their rows in the order of starting, and why nothing starts."""

    submissions: tuple[Submission, ...]
    entries: tuple[Entry, ...]
    paused: str = ""
    """Why the queue has paused by itself; empty: it has not."""


@dataclass(slots=True)
class _Story:
    """What the decisions say of one submission."""

    runs: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Run → where its newest trainer works, such as `on GPU 1`."""
    closed: dict[str, tuple[str, str]] = field(default_factory=dict)
    waits: str = ""
    released: set[str] = field(default_factory=set)
    """Rows that were released, or asked for again, and have not been started since."""
    begun: dict[str, Decision] = field(default_factory=dict)
    """Run → the start or adoption of its trainer, until its end."""


def listing(runs: RunsFolder, db: QueueDb) -> Listing:
    """The queue as it stands. Resolves nothing: no manifest and no audio is read."""
    submissions = db.open_submissions()
    wishes = db.row_wishes()
    stories = {submission.id: _Story() for submission in submissions}
    paused = ""
    gpus: dict[str, str] = {}
    for decision in decisions_about(runs.decisions, list(stories)):
        if decision.kind in ("pause", "resume", "supervisor_ended"):
            paused = _paused(paused, decision)
        elif decision.kind == "devices":
            gpus = dict(decision.get("gpus") or {})
        elif str(decision.get("submission")) in stories:
            _tell(stories[str(decision.get("submission"))], decision, gpus)
    entries: list[Entry] = []
    for submission in submissions:
        wished = wishes.get(submission.id, RowWishes())
        entries += _entries(runs, submission, wished, stories[submission.id])
    return Listing(tuple(submissions), tuple(entries), paused)


def named(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The entries that `names` mean: row keys, experiments, run folders, identities or submissions.

    RunFolderError names what is not in the queue.
    """
    found: list[Entry] = []
    for name in names:
        hits = [entry for entry in entries if name in _names(entry)]
        if not hits:
            known = ", ".join(dict.fromkeys(entry.row.key for entry in entries)) or "nothing"
            raise RunFolderError(f"{name}: not in the queue, which has {known}; `lora-tui queue list` shows it")
        found += [entry for entry in hits if entry not in found]
    return found


def _names(entry: Entry) -> tuple[str, ...]:
    run = () if entry.run is None else (entry.run.name, entry.run.name.rpartition("-")[2])
    return (entry.row.key, entry.row.experiment, entry.submission.id, *run)


def _paused(before: str, decision: Decision) -> str:
    if decision.kind == "pause":
        return str(decision.get("reason"))
    if decision.kind == "supervisor_ended" and decision.get("reason") == "told to stop":
        return before
    return ""


def _tell(story: _Story, decision: Decision, gpus: Mapping[str, str]) -> None:
    row = str(decision.get("row"))
    match decision.kind:
        case "run" | "start" | "adopt":
            story.runs[row] = str(decision.get("run"))
            story.closed.pop(row, None)
            if decision.kind != "run":
                story.released.discard(row)
                story.waits = ""
                gpu = decision.get("gpu")
                story.places[str(decision.get("run"))] = f"on {gpus.get(gpu, gpu)}" if gpu else ""
                story.begun[story.runs[row]] = decision
        case "exit":
            story.begun.pop(str(decision.get("run")), None)
        case "skip":
            story.closed[row] = (str(decision.get("status") or EntryState.SKIPPED), str(decision.get("reason")))
        case "wish" if decision.get("wish") in ("retry", "release"):
            story.released.add(row)
            if decision.get("wish") == "retry":
                story.closed.pop(row, None)
        case "wait":
            story.waits = str(decision.get("reason"))


def is_starting(run: RunPaths, begun: Decision | None) -> bool:
    """Whether the trainer that `begun` tells of lives and has said nothing yet: its imports take seconds."""
    process = None if begun is None else identity_from_json(begun.get("process"))
    if begun is None or process is None or is_alive(process) is not True:
        return False
    return len(read_run(run).attempts) <= int(begun.get("attempts_before") or 0)


def _entries(runs: RunsFolder, submission: Submission, wishes: RowWishes, story: _Story) -> list[Entry]:
    try:
        rows = all_rows(parse_plan(submission.plan_text, submission.plan_path, submission.overrides))
    except PlanError:
        return []  # the supervisor says so, and closes it
    begun = {*story.runs, *story.closed, *wishes.held, *wishes.removed}
    wanted = [row for row in shown(rows, begun) if not submission.only or matches(row, submission.only)]
    wanted.sort(key=lambda row: wishes.ranks.get(row.key, 0.0))
    return [_entry(runs, submission, row, wishes, story) for row in wanted]


def _entry(runs: RunsFolder, submission: Submission, row: Row, wishes: RowWishes, story: _Story) -> Entry:
    entry = Entry(submission, row, EntryState.QUEUED)
    if row.key in story.runs:
        run = RunPaths(runs.root / story.runs[row.key])
        state, reason = state_and_reason(run)
        if not state.active and state is not RunState.DONE and is_starting(run, story.begun.get(run.name)):
            state, reason = RunState.STARTING, ""
        place = story.places.get(run.name, "") if state.active else ""
        entry = replace(entry, run=run, state=state.value, reason=", ".join(filter(None, (place, reason))))
        if state.active or state is RunState.DONE:
            return entry
    if row.key in wishes.removed:
        return replace(entry, state=EntryState.REMOVED)
    if row.key in wishes.held:
        return replace(entry, state=EntryState.HELD, reason=wishes.held[row.key])
    if row.key in story.closed:
        word, reason = story.closed[row.key]
        return replace(entry, state=word, reason=reason)
    if entry.run is not None and row.key in story.released:
        # What its folder says is how it ended before; it waits for its turn to go on.
        entry = replace(entry, state=EntryState.QUEUED, reason=f"{entry.state} before, is started again")
    if entry.state == EntryState.QUEUED and story.waits:
        return replace(entry, state=EntryState.WAITING, reason="; ".join(filter(None, (story.waits, entry.reason))))
    return entry
