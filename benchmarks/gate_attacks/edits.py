"""Small changes of files: a leaf of a JSON document, a line, a byte; and hashes that follow a change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from core.runs.adapter_files import adapter_hash
from core.runs.folder import inventory
from core.runs.paths import RunPaths, adapter_step, step_of

Leaf = tuple[Any, Any]
"""(container, key or index)"""
GARBAGE = (b"", b"\0" * 64, b"\xff\xfe\xfd", b"[" * 20000, b'{"a":' * 20000, b"null", b"[]", b"1e999", b'"text"', b"{}")


def leaves(document: Any) -> Iterator[Leaf]:
    """Every place of a JSON document that holds a plain value."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        if isinstance(value, (dict, list)):
            yield from leaves(value)
        else:
            yield document, key


def containers(document: Any) -> Iterator[Any]:
    """Every object and list of a JSON document."""
    yield document
    for value in document.values() if isinstance(document, dict) else document:
        if isinstance(value, (dict, list)):
            yield from containers(value)


def other_value(random: Random, value: Any) -> Any:
    """A value that is not `value`: near it, far from it, or of another type."""
    odd = [
        None,
        True,
        False,
        -1,
        0,
        1,
        10**30,
        1e308,
        -0.5,
        float("nan"),
        float("inf"),
        "",
        "x" * 50,
        "x" * 3_000_000,
        "../../..",
        [],
        {},
    ]
    near: list[Any] = []
    if isinstance(value, bool):
        near = [not value]
    elif isinstance(value, int):
        near = [value + 1, value - 1, value * 2, -value, 0, str(value)]
    elif isinstance(value, float):
        near = [value * 1.01, value + 1, -value, value / 2, str(value)]
    elif isinstance(value, str):
        near = [value[:-1], value + "x", value.upper(), value[::-1], " ".join(value.split()[1:])]
    choices = [item for item in (near * 3 or odd) + odd if not _same(item, value)]
    return random.choice(choices)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON document in place, and keep the way it is written."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def edit_lines(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change the events of a run."""
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def random_edit(random: Random, path: Path) -> str:
    """Change, drop, double, rename or exchange something in a JSON document; says what."""
    said = ""

    def change(document: Any) -> None:
        nonlocal said
        kind = random.randrange(6)
        places = list(leaves(document))
        holder, key = random.choice(places)
        if kind <= 2:
            old = holder[key]
            holder[key] = other_value(random, old)
            said = f"{key}: {str(old)[:40]!r} → {str(holder[key])[:40]!r}"
        elif kind == 3:
            said = f"{key} removed"
            del holder[key]
        elif kind == 4 and isinstance(holder, dict):
            holder[f"{key}_"] = holder.pop(key)
            said = f"{key} renamed"
        else:
            lists = [item for item in containers(document) if isinstance(item, list) and len(item) > 1]
            if not lists:
                holder[key] = other_value(random, holder[key])
                said = f"{key} changed"
                return
            chosen = random.choice(lists)
            one = random.randrange(len(chosen))
            how = random.randrange(3)
            if how == 0:
                chosen.append(chosen[one])
            elif how == 1:
                del chosen[one]
            else:
                chosen.reverse()
            said = f"a list of {len(chosen)}: one {('doubled', 'dropped', 'turned round')[how]}"

    edit(path, change)
    return said


def spoil(random: Random, path: Path) -> str:
    """Cut, empty, overwrite or flip bytes of a file; says how."""
    data = path.read_bytes()
    kind = random.randrange(4)
    if kind == 0:
        at = random.randrange(len(data) + 1)
        path.write_bytes(data[:at])
        return f"cut at byte {at} of {len(data)}"
    if kind == 1:
        junk = random.choice(GARBAGE)
        path.write_bytes(junk)
        return f"overwritten by {junk[:12]!r}…"
    if kind == 2:
        changed = bytearray(data)
        at = random.randrange(max(1, len(changed)))
        changed[at : at + 1] = bytes([changed[at] ^ (1 << random.randrange(8))]) if changed else b""
        path.write_bytes(changed)
        return f"a bit of byte {at} turned"
    path.write_bytes(data + data[: len(data) // 2])
    return "half of it again behind it"


def odd_file(random: Random, path: Path, outside: Path) -> str:
    """Put something that is no plain file where a file was; says what."""
    path.unlink()
    kind = random.choice(("fifo", "zero", "null", "loop", "folder", "gone", "huge", "outside", "endless"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind in ("zero", "null"):
        path.symlink_to(f"/dev/{kind}")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "endless":  # regular and empty, by what the kernel says of it
        path.symlink_to("/proc/self/pagemap")
    elif kind == "outside":
        path.symlink_to(outside / "notes.txt")
    return {"gone": "removed", "huge": "a sparse file of 1 TiB"}.get(kind, f"{kind} in its place")


def rehash(folder: Path, before: dict[str, str]) -> int:
    """Write the new SHA-256 of each file of `before` (path → old digest) wherever a small file of `folder` has the old.

    Returns how many places were changed. What a consistent forger would do.
    """
    replaced = {}
    for name, old in before.items():
        path = Path(name)
        if path.is_file():
            new = hashlib.sha256(path.read_bytes()).hexdigest()
            replaced |= {old: new} if new != old else {}
    count = 0
    for path in folder.rglob("*.json*"):
        if not path.is_file() or path.is_symlink() or path.stat().st_size > 8 << 20:
            continue
        text = changed = path.read_text(errors="surrogateescape")
        for old, new in replaced.items():
            changed = changed.replace(old, new)
        if changed != text:
            count += 1
            path.write_text(changed, errors="surrogateescape")
    return count


def digests(*paths: Path) -> dict[str, str]:
    """Path → SHA-256 of the files now, for `rehash`."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def settle(run: Path) -> None:
    """Write result.json and the final event anew over the run's files as they are, by the link's adapter."""
    paths = RunPaths(run)
    result, name = json.loads(paths.result.read_bytes()), paths.best.readlink().name
    result |= {"best_step": adapter_step(name), "adapter_hash": adapter_hash(paths.best)}
    result.pop("candidate", None)
    result |= {} if step_of(name) is not None else {"candidate": name}
    lines = paths.events.read_bytes().splitlines(keepends=True)
    events = b"".join(lines[:-1])
    digest = hashlib.sha256(events).hexdigest()
    result |= {"files": inventory(paths), "events": {"bytes": len(events), "sha256": digest}}
    paths.result.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    final = json.loads(lines[-1]) | {"result": hashlib.sha256(paths.result.read_bytes()).hexdigest()}
    paths.events.write_bytes(events + json.dumps(final).encode() + b"\n")
