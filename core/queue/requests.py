"""What faces ask of the supervisor: submissions, requests and order, in SQLite on a local disk (`queue.sqlite3`).

It holds order and requests only. If it is lost, a face submits again; what was done stands in the run folders
and in `decisions.jsonl`. The journal is a plain file (no WAL): traffic is a few rows an hour.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from core.plan.rows import matches
from core.plan.schema import Row
from core.queue.journal import Request
from core.system.files import check_writing, make_private

BUSY_TIMEOUT_S = 10.0
_YOUNG_NS = 1_000_000_000
_VERSION = 2
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DISK = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_PROBE_BYTES = 1 << 16
_TABLES = (
    """CREATE TABLE IF NOT EXISTS submissions (
  number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, created REAL NOT NULL, plan_path TEXT NOT NULL,
  plan_text TEXT NOT NULL, overrides TEXT NOT NULL, only_rows TEXT NOT NULL, open INTEGER NOT NULL DEFAULT 1)""",
    """CREATE TABLE IF NOT EXISTS wishes (
  number INTEGER PRIMARY KEY, created REAL NOT NULL, kind TEXT NOT NULL, submission TEXT, run TEXT,
  open INTEGER NOT NULL DEFAULT 1)""",
    """CREATE TABLE IF NOT EXISTS plan_rows (
  submission TEXT NOT NULL, row TEXT NOT NULL, held TEXT, removed INTEGER NOT NULL DEFAULT 0, rank REAL,
  PRIMARY KEY (submission, row))""",
)
_ADDED_COLUMNS = (("wishes", "row", "TEXT"), ("submissions", "rank", "REAL NOT NULL DEFAULT 0"))
"""Since version 1."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A plan as it was when it was submitted; later edits of the file do not reach it."""

    id: str
    plan_path: str
    """Absolute: relative paths in the plan resolve against its folder."""
    plan_text: str
    overrides: tuple[str, ...] = ()
    """`--set` values."""
    only: tuple[str, ...] = ()
    """Experiment ids or row keys that may run; empty: all."""

    @classmethod
    def create(
        cls, plan_path: Path, plan_text: str, overrides: Sequence[str] = (), only: Sequence[str] = ()
    ) -> Submission:
        """A new one, with an id that no other submission has."""
        return cls(uuid.uuid4().hex[:12], str(plan_path.absolute()), plan_text, tuple(overrides), tuple(only))

    def asks_for(self, row: Row) -> bool:
        """Whether this row of its plan may run."""
        return not self.only or matches(row, self.only)

    def same_work(self, other: Submission) -> bool:
        """Whether both ask for the same."""
        return replace(other, id=self.id) == self


@dataclass(frozen=True, slots=True)
class Target:
    """A row of a submission; `row` None: all of the submission."""

    submission: str
    row: str | None = None


@dataclass(frozen=True, slots=True)
class RowRequests:
    """What is asked for the rows of a submission."""

    held: dict[str, str] = field(default_factory=dict)
    """Row key → why it is not started until it is released."""
    removed: frozenset[str] = frozenset()
    ranks: dict[str, float] = field(default_factory=dict)
    """Row key → its place; rows without one come at 0, in the plan's order."""


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """What the file says at one moment."""

    submissions: list[Submission]
    """The open ones, in the order in which they are worked on."""
    rows: dict[str, RowRequests]
    """What is asked for rows, by submission."""
    requests: dict[int, Request]
    """Those that were not taken yet, by their numbers, oldest first."""
    ending: frozenset[str]
    """The open submissions that somebody has asked to stop or to kill as a whole: nothing more is started there."""


class QueueDb:
    """The submissions and requests in the file.

    Each call opens, acts and closes: no connection outlives a deleted or replaced file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._checked = False
        """Whether all pages of the file were looked at once: a good first page says nothing of the others."""

    def changed(self) -> bool:
        """Whether somebody may have written since the last call: spares an idle supervisor the opening."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        # Two writes within a tick of the kernel's clock have the same time: a young file is always looked at.
        young = abs(time.time_ns() - found.st_mtime_ns) < _YOUNG_NS
        known, self._stamp = self._stamp, stamp
        return young or stamp != known

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection on which all or nothing is done. OSError when the disk, or who holds the file, forbids it."""
        try:
            db = self._open()
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            if (found := self._as_os_error(error)) is None:
                raise
            raise found from error

    def submit(self, submission: Submission, retry: Collection[str] = (), *, removed_again: bool = False) -> Submission:
        """Put it into the queue. If the same work is queued and open, that submission is returned instead.

        But not one that somebody has asked to end: this one goes on where that one ends.
        `retry`: rows that are to be tried again whatever became of them; `removed_again`: those that were removed are
        asked for again.
        """
        with self.transaction() as db:
            ending = _ending(db)
            same = (q for q in _open_submissions(db) if q.same_work(submission) and q.id not in ending)
            queued = next((q for q in _open_submissions(db) if q.id == submission.id), None) or next(same, None)
            if queued is None:
                db.execute(
                    f"INSERT OR REPLACE INTO submissions (created, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                    (
                        time.time(),
                        submission.id,
                        submission.plan_path,
                        submission.plan_text,
                        json.dumps(submission.overrides),
                        json.dumps(submission.only),
                    ),
                )
            name = submission.id if queued is None else queued.id
            _ask(db, "retry", [Target(name, row) for row in retry])
            if removed_again:
                rows = db.execute("SELECT row FROM plan_rows WHERE submission = ? AND removed = 1", (name,))
                _ask(db, "add", [Target(name, row) for (row,) in rows])
        return submission if queued is None else queued

    def open_submissions(self) -> list[Submission]:
        """In the order in which they are worked on."""
        with self.transaction() as db:
            return _open_submissions(db)

    def submission(self, identifier: str) -> Submission | None:
        """Open or closed; None when the file does not know it."""
        with self.transaction() as db:
            rows = db.execute(f"SELECT {_COLUMNS} FROM submissions WHERE id = ?", (identifier,))  # noqa: S608
            return next(map(_submission, rows), None)

    @contextlib.contextmanager
    def closing(self, identifier: str, *, at_once: bool = False) -> Iterator[bool]:
        """Yields whether the submission is closed when the block ends: nobody can ask for anything meanwhile.

        Nothing is left to do for it then, and its open requests are void.

        But for `at_once` it is not where somebody has asked for more, and no supervisor has heard of it yet.
        """
        with self.transaction() as db:
            more = "SELECT 1 FROM wishes WHERE open = 1 AND submission = ? AND kind IN ('retry', 'release', 'add')"
            if not at_once and db.execute(more, (identifier,)).fetchone():
                yield False
                return
            db.execute("UPDATE submissions SET open = 0 WHERE id = ?", (identifier,))
            db.execute("UPDATE wishes SET open = 0 WHERE submission = ?", (identifier,))
            db.execute("DELETE FROM plan_rows WHERE submission = ?", (identifier,))
            yield True  # a full disk has shown by now

    def ask(self, kind: str, targets: Sequence[Target], held: str | None = None) -> list[Target]:
        """Ask for `stop`, `kill`, `retry`, `hold`, `release` or `remove` of rows, or of submissions as a whole.

        With `held`, the rows are also kept from being started until they are released, for that reason. Returns what
        came too late: its submission is closed, or (`retry`) was asked to end.
        """
        with self.transaction() as db:
            names = {submission.id for submission in _open_submissions(db)}
            names -= _ending(db) if kind == "retry" else set()
            late = [target for target in targets if target.submission not in names]
            _ask(db, kind, [target for target in targets if target.submission in names], held)
        return late

    def reorder(self, submission: str, keys: Sequence[str]) -> None:
        """The order in which the rows of a submission are started, as far as their conditions allow."""
        with self.transaction() as db:
            for rank, key in enumerate(keys):
                _set_rows(db, [Target(submission, key)], "rank", rank)
            _ask(db, "move", [Target(submission)])

    def reorder_submissions(self, identifiers: Sequence[str]) -> None:
        """The order in which open submissions are worked on; later ones come behind."""
        with self.transaction() as db:
            for place, identifier in enumerate(identifiers):
                rank = place - len(identifiers)
                db.execute("UPDATE submissions SET rank = ? WHERE id = ?", (rank, identifier))
            _ask(db, "move", [Target(identifier) for identifier in identifiers[:1]])

    def snapshot(self) -> QueueSnapshot:
        """All that is asked for, as of one moment."""
        with self.transaction() as db:
            return QueueSnapshot(_open_submissions(db), _row_requests(db), _open_requests(db), _ending(db))

    def close_request(self, number: int) -> None:
        """It was taken."""
        with self.transaction() as db:
            db.execute("UPDATE wishes SET open = 0 WHERE number = ?", (number,))

    @contextlib.contextmanager
    def leaving(self) -> Iterator[bool]:
        """Yields whether nothing is open, and keeps every face from submitting until the block ends.

        The supervisor lets go of its lock inside the block: a face that submits afterwards finds it free.
        """
        with self.transaction() as db:
            yield not _open_submissions(db)

    def _as_os_error(self, error: sqlite3.DatabaseError) -> OSError | None:
        """What the disk says of it: SQLite says "unable to open" of a disk that has no inode left, too."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            self._checked = False  # the next call puts the file aside
            return OSError(errno.EIO, f"damaged ({error})", str(self.path))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return OSError(errno.EAGAIN, "another process keeps the queue's file locked", str(self.path))
        if code == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if code in _DISK:
            try:
                with self.path.open("ab"), tempfile.TemporaryFile(dir=self.path.parent) as probe:
                    os.posix_fallocate(probe.fileno(), 0, _PROBE_BYTES)
            except OSError as found:
                return OSError(found.errno, os.strerror(found.errno or errno.EIO), str(self.path))
            return OSError(errno.EIO, str(error), str(self.path))
        return None

    def _open(self) -> sqlite3.Connection:
        make_private(self.path.parent)
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # Not a database any more: a face can submit again what it held, so it never blocks a start.
            check_writing(self.path)
            self.path.replace(self.path.with_name(f"{self.path.name}.broken-{int(time.time())}"))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        # Opening a FIFO to see what is wrong with it would wait for ever.
        if self.path.exists() and not self.path.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(self.path))
        db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
                check_writing(self.path)
                _bring_up_to_date(db)
            if not self._checked and (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            self._checked = True
        except BaseException:
            db.close()
            raise
        return db


def _bring_up_to_date(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        db.execute(table)
    for table, column, kind in _ADDED_COLUMNS:
        if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("COMMIT")


_CHANGES: Mapping[str, Mapping[str, int | None]] = {
    "release": {"held": None},
    "remove": {"removed": 1},
    "add": {"removed": 0},
    "retry": {"held": None, "removed": 0},
}
"""Request → the columns of `plan_rows` that it sets."""
_COLUMNS = "id, plan_path, plan_text, overrides, only_rows"


def _open_submissions(db: sqlite3.Connection) -> list[Submission]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM submissions WHERE open = 1 ORDER BY rank, number")  # noqa: S608
    return [_submission(row) for row in rows]


def _row_requests(db: sqlite3.Connection) -> dict[str, RowRequests]:
    found: dict[str, RowRequests] = {}
    rows = db.execute("SELECT submission, row, held, removed, rank FROM plan_rows").fetchall()
    for name in {row[0] for row in rows}:
        mine = [row[1:] for row in rows if row[0] == name]
        found[name] = RowRequests(
            {row: held for row, held, _, _ in mine if held is not None},
            frozenset(row for row, _, removed, _ in mine if removed),
            {row: rank for row, _, _, rank in mine if rank is not None},
        )
    return found


def _open_requests(db: sqlite3.Connection) -> dict[int, Request]:
    rows = db.execute("SELECT number, kind, submission, row FROM wishes WHERE open = 1 ORDER BY number")
    return {number: Request(request=kind, submission=name, row=row) for number, kind, name, row in rows}


def _ending(db: sqlite3.Connection) -> frozenset[str]:
    rows = db.execute(
        "SELECT DISTINCT w.submission FROM wishes w JOIN submissions s ON s.id = w.submission"
        " WHERE s.open = 1 AND w.row IS NULL AND w.kind IN ('stop', 'kill')"
    )
    return frozenset(name for (name,) in rows)


def _submission(row: Sequence[str]) -> Submission:
    return Submission(row[0], row[1], row[2], tuple(json.loads(row[3])), tuple(json.loads(row[4])))


def _ask(db: sqlite3.Connection, kind: str, targets: Sequence[Target], held: str | None = None) -> None:
    """Write down a request, and what it changes for the rows."""
    now = time.time()
    db.executemany(
        "INSERT INTO wishes (created, kind, submission, row) VALUES (?, ?, ?, ?)",
        [(now, kind, target.submission, target.row) for target in targets],
    )
    for column, value in _CHANGES.get(kind, {}).items() if held is None else [("held", held)]:
        _set_rows(db, targets, column, value)


def _set_rows(db: sqlite3.Connection, targets: Sequence[Target], column: str, value: str | float | None) -> None:
    """Set a column of `plan_rows`; targets without a row have none."""
    db.executemany(
        f"INSERT INTO plan_rows (submission, row, {column}) VALUES (?, ?, ?)"  # noqa: S608
        f" ON CONFLICT (submission, row) DO UPDATE SET {column} = excluded.{column}",
        [(target.submission, target.row, value) for target in targets if target.row is not None],
    )
