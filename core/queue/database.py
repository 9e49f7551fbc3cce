"""The queue's SQLite file: opened, brought up to date, and replaced when it is no database any more."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from core.system.files import make_private

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


class Database:
    """The file. Each call opens, acts and closes: no connection outlives a deleted or replaced file."""

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
            self.path.replace(self.path.with_name(f"{self.path.name}.broken-{int(time.time())}"))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        # Opening a FIFO to see what is wrong with it would wait for ever.
        if self.path.exists() and not self.path.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(self.path))
        db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
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
