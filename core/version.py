"""Which lora-tui this is: the release, and the commit where it is a checkout or was installed from one.

The release stands in pyproject.toml alone; what is installed carries it in its metadata.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGE = "lora-tui"
_GIT_TIMEOUT_S = 5.0
_COMMIT_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of the code that runs."""

    release: str
    """`unknown` where the package is not installed."""
    commit: str | None
    """12 hex digits; None: it was installed as a release."""
    changed: bool | None
    """Whether files of the checkout differ from the commit; None: it is no checkout, or git does not tell."""

    @property
    def code(self) -> str:
        """As run.json has it."""
        return self.release if self.commit is None else f"{self.release}+{self.commit}"

    def __str__(self) -> str:
        """As `--version` shows it."""
        changed = ", with changes that were not committed" if self.changed else ""
        return self.release if self.commit is None else f"{self.release} (commit {self.commit}{changed})"


def this_version() -> Version:
    """Read from the package's metadata and, in a checkout, asked of git."""
    try:
        package: metadata.Distribution | None = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        package = None
    release = "unknown" if package is None else package.version
    folder = Path(__file__).resolve().parents[1]
    # Only our own checkout counts: an installed package may lie inside somebody else's repository.
    if not (folder / ".git").exists():
        return Version(release, None if package is None else _installed_commit(package), None)
    commit = _git(folder, "rev-parse", f"--short={_COMMIT_DIGITS}", "HEAD")
    status = None if commit is None else _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Version(release, commit, None if status is None else bool(status))


def _installed_commit(package: metadata.Distribution) -> str | None:
    """The commit that `pip install git+…` wrote down (direct_url.json of the packaging standards)."""
    try:
        told = json.loads(package.read_text("direct_url.json") or "{}")
        commit = told["vcs_info"]["commit_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return commit[:_COMMIT_DIGITS] if isinstance(commit, str) and commit.isalnum() else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
