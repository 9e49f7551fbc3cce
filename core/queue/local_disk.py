"""Where locks and SQLite go: kernel locks and SQLite cannot be trusted on network file systems."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from core.runs.paths import RunsFolder
from core.user_paths import state_home, user_path

REMOTE_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.gcsfuse", "fuse.s3fs", "fuse.rclone"}
)
MOUNTS = Path("/proc/self/mounts")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def runs_folder(root: Path, state: Path | None, home: Path | None = None, mounts: Path = MOUNTS) -> RunsFolder:
    """The runs folder `root` with its state folder: `state`, or by default the runs folder itself.

    On a network file system the default is a folder under `home` (`$XDG_STATE_HOME`).
    """
    root = user_path(root).absolute()
    if state is not None:
        return RunsFolder(root, user_path(state).absolute())
    if not is_remote(root, mounts):
        return RunsFolder(root, root)
    name = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return RunsFolder(root, (home or state_home()).absolute() / "lora-tui" / name)


def is_remote(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether `path`, or where it will be made, is on a network file system. False where nobody can tell."""
    real = path.resolve()
    kind, depth = "", -1
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), fields[1]))
        # The last mount on a path hides the earlier ones.
        if real.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = fields[2], len(point.parts)
    return kind in REMOTE_TYPES
