"""`exports/<name>/` of a run: what was shipped, and what its own runtime made of the evaluation sets.

`export.json` says which files were made and by which runtime they were heard; beside it lie the score documents of that
runtime. Nothing is believed for being in export.json: the error rates are those of the transcripts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from core.errors import RunFolderError
from core.plan.exports import target_of
from core.runs.folder import delete, files, links, names, read_json, sha256_of, write_json
from core.runs.paths import RunPaths
from core.runs.scores import Score, mappings, read_score
from core.sanitise import quoted
from core.scoring.served import Difference, difference
from core.system.files import is_file, open_regular

SCHEMA_VERSION = 1
METHOD_VERSION = 1
"""Raise it whenever the same transcripts would give another interval."""
MOST_FILES = 10_000
"""Of an export; a folder of a model has a few dozen."""
MOST_BYTES = 256 << 30
"""Of all of them: a model of 60 billion weights in float32."""
MOST_SHOWN = 20
_PATH_BYTES, _NAME_BYTES = 2048, 255
_MOST_PACKED = 16
"""Times that a file system that compresses makes weights smaller, at the very most. A file of holes reads for hours."""
_HOLE_BYTES = 1 << 20
_TOLERANCE = 1e-3
"""Points: what rounding and processors may differ in."""
Count = Annotated[int, msgspec.Meta(ge=0)]


class ExportedFile(msgspec.Struct, frozen=True):
    """One file of an export."""

    bytes: Count
    sha256: str


class ServedSet(msgspec.Struct, frozen=True):
    """What export.json says of one set; the same can be computed from the documents."""

    sha256: str
    """Of the score document beside it."""
    utterances: Count
    changed: Count
    errors: Count
    reference_words: Count
    rise_pp: float
    low_pp: float | None
    high_pp: float | None


class RuntimeNamed(msgspec.Struct, frozen=True):
    """The program that the sets went through."""

    name: str
    version: str
    device: str
    precision: str


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """export.json."""

    schema: int
    method: int
    """Of the intervals."""
    target: str
    """`ct2:int8`."""
    identity: str
    adapter_hash: str
    folder: str
    """Where it was written; it may be on another machine."""
    files: dict[str, ExportedFile]
    runtime: RuntimeNamed
    made_with: dict[str, str]
    """Versions of the packages that wrote it."""
    conversion: dict[str, Any]
    """What the conversion says of itself, such as what a truncation left out."""
    sets: dict[str, ServedSet]


def read_export(paths: RunPaths, name: str) -> tuple[Export | None, str | None]:
    """(export.json, None), (None, what is wrong with it), or (None, None) without one. Never raises."""
    where = paths.export(name)
    document, problem = read_json(paths.root, where)
    if document is None:
        return None, problem
    try:
        found = msgspec.convert(document, Export)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        return None, f"{where}: {error}: export again"
    if found.schema != SCHEMA_VERSION:
        return None, f"{where}: schema {found.schema}, not {SCHEMA_VERSION}: export again"
    wrong = next((one for one in (found.folder, *found.files) if not _can_be_a_path(one)), None)
    if wrong is not None:
        return None, f"{where}: names {quoted(wrong)}, which no file can be called: export again"
    return found, None


def _can_be_a_path(name: str) -> bool:
    """Whether the system takes it for one, there or not."""
    try:
        written = os.fsencode(name)
    except UnicodeError:
        return False
    return b"\0" not in written and len(written) < _PATH_BYTES and max(map(len, written.split(b"/"))) <= _NAME_BYTES


def exports_of(paths: RunPaths) -> list[str]:
    """The names of the run's exports."""
    return [name for name in names(paths.root, paths.exports) if names(paths.root, paths.exports / name)]


def hashes_of(folder: Path) -> dict[str, ExportedFile]:
    """Each regular file below `folder`, by its name with slashes. OSError."""
    found = {_relative(file, folder): ExportedFile(file.stat().st_size, _sha256(file)) for file, _ in files(folder)}
    return dict(sorted(found.items()))


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _sha256(file: Path) -> str:
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_export(paths: RunPaths, export: Export, scores: Mapping[str, Score]) -> Path:
    """Write the documents, and export.json last, or leave none. RunFolderError where there is a link, OSError."""
    where = paths.export(_folder_name(export.target))
    try:
        for name, score in scores.items():
            write_json(paths.root, where.with_name(f"{name}.json"), score.plain())
        sets = {name: _set(where.with_name(f"{name}.json"), export.sets[name]) for name in scores}
        write_json(paths.root, where, msgspec.to_builtins(msgspec.structs.replace(export, sets=sets)))
    except OSError:
        with suppress(OSError, RunFolderError):  # of half of them `verify` would complain for ever
            delete(paths.root, where.parent)
        raise
    return where


def _folder_name(target: str) -> str:
    return target.replace(":", "-")


def _set(document: Path, said: ServedSet) -> ServedSet:
    return msgspec.structs.replace(said, sha256=sha256_of(document))


def served_set(found: Difference) -> ServedSet:
    """As export.json has it; the document's hash is known when it is written."""
    return ServedSet(
        "",
        found.utterances,
        found.changed,
        found.errors,
        found.reference_words,
        round(found.rise_pp, 6),
        None if found.low_pp is None else round(found.low_pp, 6),
        None if found.high_pp is None else round(found.high_pp, 6),
    )


def compared(judged: Score, served: Score) -> Difference:
    """The two documents of one set beside each other. ValueError where they are not of the same clips."""
    differing = judged.differing_clip(served)
    if differing is not None:
        raise ValueError(f"not the clips that were judged: {differing}")
    return difference(mappings(judged.utterances), mappings(served.utterances))


def wrong_export(paths: RunPaths, name: str, export: Export, adapter_hash: str | None) -> Iterator[str]:
    """What in the run folder does not bear out export.json, a sentence each: adapter, documents and figures."""
    where = paths.export(name)
    for link in links(paths.root, paths.exports.name, f"{paths.exports.name}/{name}"):
        yield f"{paths.root / link}: a link, which is not followed: put what it leads to in its place"
    if _folder_name(export.target) != name:
        yield f"{where}: is of {export.target}, in the folder of {name}"
    yield from _wrong_form(where, export)
    if adapter_hash is not None and export.adapter_hash != adapter_hash:
        yield f"{where}: is of another adapter than lora_adapter_best ({export.adapter_hash[:12]}): export again"
    for dataset in ("domain", "heldout"):
        said, file = export.sets.get(dataset), paths.served(name, dataset)
        if said is None:
            yield f"{where}: says nothing of {dataset}: export again where that set is"
            continue
        served, problem = read_score(file)
        judged, _ = read_score(paths.tuned(dataset))
        if served is None:
            yield problem or f"{file}: missing, though it was there when the export was judged"
            continue
        if served.adapter_hash != export.adapter_hash:
            yield f"{file}: is of another adapter than the export"
        if not _is_heard(served, export, judged):
            yield f"{file}: is no score of the runtime that {where.name} names: export again"
        try:
            if sha256_of(file) != said.sha256:
                yield f"{file}: changed since the export was judged"
        except OSError as error:
            yield f"{file}: cannot be read: {error.strerror}"
        if judged is not None and (wrong := _wrong_figures(said, judged, served)) is not None:
            yield f"{where}: its {wrong[0]} of {dataset} is {wrong[1]}, the transcripts give {wrong[2]}"


def _wrong_form(where: Path, export: Export) -> Iterator[str]:
    """Something was exported, and heard by a runtime of its form."""
    target = target_of(export.target)
    if target is not None and export.runtime.name not in target.form.heard_by:
        heard, ours = quoted(export.runtime.name), " or ".join(target.form.heard_by)
        yield f"{where}: was heard by {heard}, and a {target} is heard by {ours}: export again"
    if not any(said.bytes for said in export.files.values()):
        yield f"{where}: lists no file that was exported: export again"
    if (out := next(filter(_leads_out, export.files), None)) is not None:
        yield f"{where}: lists {quoted(out)}, which leads out of the export: export again"


def _leads_out(name: str) -> bool:
    pure = PurePosixPath(name)
    return pure.is_absolute() or ".." in pure.parts


def _is_heard(served: Score, export: Export, judged: Score | None) -> bool:
    """Whether the document is what that runtime writes. It tells no losses, and no clips are decoded once more."""
    own = (served.device, served.precision, served.loss, served.single)
    alike = judged is None or served.fingerprint == judged.fingerprint
    return alike and own == (export.runtime.device, export.runtime.precision, None, None)


def _wrong_figures(said: ServedSet, judged: Score, served: Score) -> tuple[str, float, float] | None:
    """(which, what is said, what the documents give) of the first count that is not theirs."""
    before, after = judged.counts, served.counts
    pairs = list(zip(judged.utterances, served.utterances, strict=False))
    rise = 100 * (after.errors - before.errors) / after.reference_words if after.reference_words else 0.0
    found = {
        "utterances": len(served.utterances),
        "changed": sum(one.hypothesis != other.hypothesis for one, other in pairs),
        "errors": after.errors,
        "reference_words": after.reference_words,
    }
    for name, value in found.items():
        if getattr(said, name) != value:
            return name, getattr(said, name), value
    return None if abs(said.rise_pp - rise) < _TOLERANCE else ("rise_pp", said.rise_pp, round(rise, 4))


def export_facts(paths: RunPaths, adapter_hash: str | None) -> tuple[tuple[str, str], ...]:
    """(form and precision, what its runtime made of the sets) of each export of the run, whatever the gate asks for.

    Its counts are those of the score documents, or it is not believed. Intervals are for `verify` to compute again.
    """
    facts = []
    for name in exports_of(paths):
        target = target_of(name)
        if target is None:
            continue  # `verify` names it
        export, problem = read_export(paths, name)
        if export is None:
            facts.append((str(target), problem or f"no {paths.export(name).name}: export again"))
        elif (wrong := next(wrong_export(paths, name, export, adapter_hash), None)) is not None:
            facts.append((str(target), f"not believed: {wrong}"))
        else:
            judged, _ = read_score(paths.tuned("domain"))
            facts.append((str(target), _in_words(export, "WER" if judged is None else judged.unit.rate)))
    return tuple(facts)


def _in_words(export: Export, rate: str) -> str:
    heard = export.runtime
    sets = [
        f"{name} {said.changed} of {said.utterances} transcripts changed, {rate} {said.rise_pp:+.2f} points"
        for name, said in export.sets.items()
    ]
    by = f"heard by {quoted(heard.name)} {quoted(heard.version)} on {quoted(heard.device)} in {quoted(heard.precision)}"
    return "; ".join([*sets, by.replace("'", ""), f"written to {export.folder}"])


def wrong_interval(paths: RunPaths, name: str, export: Export) -> Iterator[str]:
    """The intervals in export.json are those that the transcripts give."""
    for dataset, said in export.sets.items() if export.method == METHOD_VERSION else ():
        served, judged = read_score(paths.served(name, dataset))[0], read_score(paths.tuned(dataset))[0]
        if served is None or judged is None:
            continue
        try:
            found = served_set(compared(judged, served))
        except ValueError as error:
            yield f"{paths.served(name, dataset)}: {error}"
            continue
        for key in ("low_pp", "high_pp"):
            then, now = getattr(said, key), getattr(found, key)
            if (then is None) != (now is None) or (then is not None and abs(then - now) > _TOLERANCE):
                yield f"{paths.export(name)}: its {key} of {dataset} is {then}, the transcripts give {now}"


def changed_export(export: Export) -> tuple[list[str], str | None]:
    """(a sentence for each file of the export that is not as it was made, None), or (…, why that could not be seen)."""
    folder = Path(export.folder)
    if not folder.is_absolute() or not folder.is_dir():
        return [], f"export {export.target}: its folder is not on this machine ({export.folder}), so no file was hashed"
    size = sum(said.bytes for said in export.files.values())
    if len(export.files) > MOST_FILES or size > MOST_BYTES:
        return [f"export {export.target}: lists {len(export.files)} files of {size} bytes, which no export has"], None
    problems = []
    for name, said in sorted(export.files.items()):
        file = folder / PurePosixPath(name)
        if _leads_out(name):
            problems.append(f"{file}: leads out of the export")
            continue
        try:
            with open_regular(file) as opened:
                status = os.fstat(opened.fileno())
                if status.st_size > _MOST_PACKED * max(_HOLE_BYTES, 512 * status.st_blocks):
                    problems.append(f"{file}: full of holes, which no export is")
                    continue
                same = status.st_size == said.bytes
                # of another size it need not be read
                same = same and hashlib.file_digest(opened, "sha256").hexdigest() == said.sha256
        except FileNotFoundError:
            problems.append(f"{file}: missing since the export was judged")
            continue
        except OSError as error:
            problems.append(f"{file}: cannot be read: {error.strerror}")
            continue
        if not same:
            problems.append(f"{file}: changed since the export was judged")
    # only beside what is listed: a forged document may name the root of the disk
    rooms = {PurePosixPath(name).parent for name in export.files if not _leads_out(name)}
    root = folder.resolve()
    here = {(room / name).as_posix() for room in rooms for name in names(root, root / room)}
    more = sorted(name for name in here - set(export.files) if is_file(folder / name))
    problems += [f"{folder / name}: was not there when the export was judged" for name in more[:MOST_SHOWN]]
    return problems, None
