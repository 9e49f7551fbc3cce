"""A cache of hashes for commands that only look."""

from __future__ import annotations

from core.manifests.hashing import HashCache


class UnsavedHashes(HashCache):
    """Looking at runs creates no folder."""

    def save(self) -> None:
        """Nothing is written."""
