"""Models of the Hugging Face hub: which commit a revision is, because a branch or a tag may become another one.

The cache of `huggingface_hub` is looked into first: it says what would be loaded here without a network. The hub itself
is asked only by what is about to train.
"""

from __future__ import annotations

import re
from pathlib import Path

from core.errors import ModelError
from core.runs.contents import HUB

DEFAULT_REVISION = "main"
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_REVISION = re.compile(r"^[\w][\w./+-]*$")
_FILE = "config.json"


class CommitUnknownError(ModelError):
    """The commit of a hub model's revision is not known here."""


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form of a hub id: `organisation/name`."""
    return _HUB_ID.match(text) is not None


def is_commit(revision: str | None) -> bool:
    """Whether `revision` is the whole name of a commit, which never means anything else."""
    return revision is not None and _COMMIT.match(revision) is not None


def hub_hash(hub_id: str, revision: str | None) -> str:
    """What stands for a hub model among the content hashes of a run."""
    return f"{HUB}{hub_id}@{revision or DEFAULT_REVISION}"


def commit_of(hub_id: str, revision: str | None, *, ask: bool) -> str:
    """The commit, 40 hex digits, that `revision` of `hub_id` is. `ask`: the hub, where the cache does not say.

    ModelError: no such revision, or it is not known (CommitUnknownError) and the sentence says what to do.
    """
    named = revision or DEFAULT_REVISION
    if is_commit(named):
        return named
    if not _REVISION.match(named) or ".." in named:
        raise ModelError(f"model.revision: {named!r} is no revision: name a branch, a tag or a commit of {hub_id}")
    found = _in_cache(hub_id, named)
    if found is not None:
        return found
    what = f"model.id: which commit of {hub_id} is {named} is not known here"
    do = "download the model, or write its commit (40 hex digits) as model.revision"
    if not ask:
        raise CommitUnknownError(f"{what}, for it is not in the cache of the hub: start the plan or {do}")
    try:
        _download(hub_id, named)
    except Exception as error:  # whatever the hub's client, its transport and the disk raise
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise CommitUnknownError(f"{what}, and the hub could not be asked ({why}): {do}") from error
    found = _in_cache(hub_id, named)
    if found is None:
        raise CommitUnknownError(f"{what}, though its {_FILE} was downloaded: {do}")
    return found


def folder_in_cache(hub_id: str, revision: str | None) -> Path | None:
    """The folder of the cache that `revision` of `hub_id` would be loaded from; None where it is not there."""
    # Only here: most plans name a folder.
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(hub_id, _FILE, revision=revision or DEFAULT_REVISION)
    except (OSError, ValueError):  # a folder that may not be read, a file that is no text
        return None
    return Path(path).parent if isinstance(path, str) else None


def _in_cache(hub_id: str, revision: str) -> str | None:
    folder = folder_in_cache(hub_id, revision)
    return folder.name if folder is not None and is_commit(folder.name) else None


def _download(hub_id: str, revision: str) -> None:
    """Have the hub's own client note in its cache which commit it is."""
    from huggingface_hub import hf_hub_download

    hf_hub_download(hub_id, _FILE, revision=revision)
