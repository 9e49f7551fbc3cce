"""What faces ask of the supervisor: submissions and wishes, in SQLite on a local disk (`queue.sqlite3`).

It holds order and wishes only. If it is lost, a face submits again; what was done stands in the run folders
and in `decisions.jsonl`. The journal is a plain file (no WAL): traffic is a few rows an hour.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BUSY_TIMEOUT_S = 10.0
_YOUNG_NS = 1_000_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS submissions (
  number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, created REAL NOT NULL, plan_path TEXT NOT NULL,
  plan_text TEXT NOT NULL, overrides TEXT NOT NULL, only_rows TEXT NOT NULL, open INTEGER NOT NULL DEFAULT 1);
CREATE TABLE IF NOT EXISTS wishes (
  number INTEGER PRIMARY KEY, created REAL NOT NULL, kind TEXT NOT NULL, submission TEXT, run TEXT,
  open INTEGER NOT NULL DEFAULT 1);
"""


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

    def same_work(self, other: Submission) -> bool:
        """Whether both ask for the same."""
        return (self.plan_path, self.plan_text, self.overrides, self.only) == (
            other.plan_path,
            other.plan_text,
            other.overrides,
            other.only,
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """`stop`: finish the step, save, end resumable. `kill`: end now. For a submission or for one run."""

    number: int
    kind: str
    submission: str | None
    run: str | None


class QueueDb:
    """The file. Each call opens, acts and closes: no connection outlives a deleted or replaced file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None

    def submit(self, submission: Submission) -> Submission:
        """Put it into the queue. If the same work is queued and open, that submission is returned instead."""
        with self._transaction() as db:
            for queued in _open_submissions(db):
                if queued.id == submission.id or queued.same_work(submission):
                    return queued
            db.execute(
                "INSERT OR REPLACE INTO submissions"
                " (id, created, plan_path, plan_text, overrides, only_rows)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    submission.id,
                    time.time(),
                    submission.plan_path,
                    submission.plan_text,
                    json.dumps(submission.overrides),
                    json.dumps(submission.only),
                ),
            )
        return submission

    def open_submissions(self) -> list[Submission]:
        """In the order in which they came."""
        with self._transaction() as db:
            return _open_submissions(db)

    def close_submission(self, identifier: str) -> None:
        """Nothing is left to do for it; its open wishes are void."""
        with self._transaction() as db:
            db.execute("UPDATE submissions SET open = 0 WHERE id = ?", (identifier,))
            db.execute("UPDATE wishes SET open = 0 WHERE submission = ?", (identifier,))

    def wish(self, kind: str, *, submission: str | None = None, run: str | None = None) -> None:
        """Ask for `stop` or `kill`."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO wishes (created, kind, submission, run) VALUES (?, ?, ?, ?)",
                (time.time(), kind, submission, run),
            )

    def open_wishes(self) -> list[Wish]:
        """Wishes that were not taken yet, oldest first."""
        with self._transaction() as db:
            rows = db.execute("SELECT number, kind, submission, run FROM wishes WHERE open = 1 ORDER BY number")
            return [Wish(*row) for row in rows]

    def close_wish(self, number: int) -> None:
        """It was taken."""
        with self._transaction() as db:
            db.execute("UPDATE wishes SET open = 0 WHERE number = ?", (number,))

    @contextlib.contextmanager
    def leaving(self) -> Iterator[bool]:
        """Yields whether nothing is open, and keeps every face from submitting until the block ends.

        The supervisor lets go of its lock inside the block: a face that submits afterwards finds it free.
        """
        with self._transaction() as db:
            yield not _open_submissions(db)

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
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._open()
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
            raise
        finally:
            db.close()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # Not a database any more: a face can submit again what it held, so it never blocks a start.
            self.path.replace(self.path.with_name(f"{self.path.name}.broken-{int(time.time())}"))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'wishes'").fetchone():
                db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db


def _open_submissions(db: sqlite3.Connection) -> list[Submission]:
    columns = "id, plan_path, plan_text, overrides, only_rows"
    rows = db.execute(f"SELECT {columns} FROM submissions WHERE open = 1 ORDER BY number")  # noqa: S608
    return [Submission(row[0], row[1], row[2], tuple(json.loads(row[3])), tuple(json.loads(row[4]))) for row in rows]
