"""The queue's SQLite file: opened, brought up to date, and replaced when it is no database any more."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

BUSY_TIMEOUT_S = 10.0
_YOUNG_NS = 1_000_000_000
_VERSION = 2
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


class Database:
    """The file. Each call opens, acts and closes: no connection outlives a deleted or replaced file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None

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
        """A connection on which all or nothing is done. OSError (ENOSPC) when the disk is full."""
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
            if db.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
                _bring_up_to_date(db)
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
