"""The only module that knows the names of files in a runs folder."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import RunFolderError
from core.system.files import is_file

ADAPTER_FACTS = "reproduce.json"
"""In an adapter folder: what its WER depends on besides the weights."""
MARKER = "complete"
"""In a checkpoint, written last."""
_HISTORY = ".steps"
_CONFIG, _RESULT = "run.json", "result.json"
_STEP = re.compile(r"^step-(\d{6,})$")
_ADAPTER = re.compile(r"^(?:step|average-\d{6,})-(\d{6,})(?:-x0\.\d{2,17})?$", re.ASCII)
_MOST_BYTES = 160
"""Of a run's name in the names of locks and caches: a file system takes 255, with what is put around it."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


def step_name(step: int) -> str:
    """`step-000400` for 400."""
    return f"step-{step:06d}"


def step_of(name: str) -> int | None:
    """400 for `step-000400`; None for other names."""
    match = _STEP.match(name)
    return int(match.group(1)) if match else None


def adapter_name(steps: Sequence[int], alpha: float = 1.0) -> str:
    """`step-000400`, `step-000400-x0.30`, `average-000100-000400`, `average-000100-000400-x0.30`.

    `steps`: of the intervals that it is the average of, ascending; `alpha`: how much of the way from the base to that.
    """
    name = step_name(steps[0]) if len(steps) == 1 else f"average-{steps[0]:06d}-{steps[-1]:06d}"
    if alpha == 1.0:
        return name
    short = f"{alpha:.2f}"
    return f"{name}-x{short if float(short) == alpha else repr(alpha)}"


def adapter_step(name: str) -> int | None:
    """400 for each name of `adapter_name`'s examples: of the newest interval it is made of; None for other names."""
    match = _ADAPTER.match(name)
    return int(match.group(1)) if match else None


def adapter_words(name: str) -> str:
    """`step 400` for an interval, the name itself for another candidate."""
    step = step_of(name)
    return name if step is None else f"step {step}"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The files of one run."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def config(self) -> Path:
        return self.root / _CONFIG

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def result(self) -> Path:
        return self.root / _RESULT

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def evals(self) -> Path:
        return self.root / "evals"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def best(self) -> Path:
        """The link to the best adapter."""
        return self.root / "lora_adapter_best"

    @property
    def last(self) -> Path:
        return self.root / "lora_adapter_last"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / step_name(step)

    def checkpoint_marker(self, step: int) -> Path:
        """Written last: a checkpoint without it is not whole and is never resumed from."""
        return self.checkpoint(step) / MARKER

    def adapter(self, which: int | str) -> Path:
        """Of an interval, by its step, or of any candidate, by its name."""
        return self.adapters / (which if isinstance(which, str) else step_name(which))

    def evaluation(self, which: int | str, dataset: str) -> Path:
        """Per-utterance scores of a set at an interval, by its step, or of any candidate, by its name."""
        return self.evals / (which if isinstance(which, str) else step_name(which)) / f"{dataset}.json"

    def significance(self, key: str) -> Path:
        """How sure the WER criteria are, by the hash of the score documents and thresholds (hex digits)."""
        return self.evals / f"significance-{key[:16]}.json"

    @property
    def data_health(self) -> Path:
        """The audit of the run's sets: a copy of the shared one, so that it travels with the run."""
        return self.root / "data_health.json"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    def export(self, name: str) -> Path:
        """What was shipped as `ct2-int8`, say, and what its own runtime made of the sets."""
        return self.exports / name / "export.json"

    def served(self, name: str, dataset: str) -> Path:
        """Per-utterance scores of a set as an export's runtime has it."""
        return self.exports / name / f"{dataset}.json"

    def reserve(self, dataset: str, who: str) -> Path:
        """Per-utterance scores of the run's part of a reserve; `who`: base or tuned."""
        return self.evals / "reserve" / f"{dataset}-{who}.json"

    @property
    def reserve_drawn(self) -> Path:
        """Which part of the reserve the run has drawn, and what is in it."""
        return self.evals / "reserve" / "drawn.json"

    @property
    def position(self) -> Path:
        """What the order of the evaluation sets does to their WER."""
        return self.evals / "position.json"

    def sink_log(self, name: str) -> Path:
        """What the process said that told the sink `name` of the run."""
        return self.root / "sinks" / f"{name}.log"

    def sink_cursor(self, name: str) -> Path:
        """How much the sink has been told."""
        return self.root / "sinks" / f"{name}.json"

    def sink_folder(self, name: str) -> Path:
        """Files of the sink's own, such as TensorBoard's event files."""
        return self.root / name

    @property
    def statement(self) -> Path:
        """What is signed: the hash of every file that the verdict rests on. Its signatures lie beside it."""
        return self.root / "signature" / "statement.json"

    @property
    def statement_hmac(self) -> Path:
        return self.statement.with_suffix(".hmac")

    @property
    def statement_ssh(self) -> Path:
        return self.statement.with_suffix(".json.sig")

    def tuned(self, dataset: str) -> Path:
        """What `lora-cli evaluate`, a separate process, said of `lora_adapter_best`."""
        return self.evals / "tuned" / f"{dataset}.json"


@dataclass(frozen=True, slots=True)
class RunsFolder:
    """A folder of runs and its state folder (`core.runs.state_folder`), which holds queue, locks and caches."""

    root: Path
    state: Path

    @property
    def decisions(self) -> Path:
        return self.root / "decisions.jsonl"

    @property
    def queue_db(self) -> Path:
        return self.state / "queue.sqlite3"

    @property
    def supervisor_lock(self) -> Path:
        return self.state / "supervisor.lock"

    @property
    def supervisor_code(self) -> Path:
        """Which code the supervisor runs that has the lock."""
        return self.state / "supervisor.code"

    @property
    def older_supervisor_lock(self) -> Path:
        """Held by a supervisor of a version that kept its state in the runs folder; nothing else there is looked at."""
        return self.root / "supervisor.lock"

    @property
    def supervisor_log(self) -> Path:
        return self.state / "supervisor.log"

    @property
    def hash_cache(self) -> Path:
        """File hashes by path, inode, size and times, so that plans resolve without reading all the audio again."""
        return self.state / "cache" / "hashes.json"

    @property
    def dashboard_memory(self) -> Path:
        """How the dashboard was left: theme, layout, filter. A convenience."""
        return self.state / "dashboard.json"

    @property
    def board_index(self) -> Path:
        """The figures of runs that ended, for the board: may be deleted, is made again."""
        return self.state / "cache" / "board.json"

    @property
    def audio_cache(self) -> Path:
        """Decoded clips, memory-mapped, keyed by content."""
        return self.state / "cache" / "audio"

    def history_cache(self, name: str) -> Path:
        """The folded events of the run called `name`: may be deleted, is made again."""
        return self.state / "cache" / "histories" / f"{_bounded(name)}{_HISTORY}"

    def histories_of_gone_runs(self) -> list[Path]:
        """Files of `history_cache`, and what killed writers left of them, whose run folders are not there any more."""
        folder = self.history_cache("").parent
        there = {_bounded(name) for name in _names(self.root)}
        found = [(name, name.lstrip(".").rpartition(_HISTORY)) for name in _names(folder)]
        return [folder / name for name, (run, ours, _) in found if ours and run not in there]

    def run_lock(self, name: str) -> Path:
        """Held by the trainer of the run called `name`, and by the children that it left behind."""
        return self.state / "locks" / f"run-{_bounded(name)}.lock"

    def gpu_lock(self, uuid: str) -> Path:
        """Held by the trainer on the GPU, and by the children that it left behind."""
        return self.state / "locks" / f"gpu-{_UNSAFE.sub('_', uuid)}.lock"

    def sink_lock(self, sink: str, run: str) -> Path:
        """Held by the one process that tells `sink` of the run."""
        return self.state / "locks" / f"sink-{sink}-{_bounded(run)}.lock"

    @property
    def matrix(self) -> Path:
        """The run matrix in Markdown, written when a headless face ends."""
        return self.root / "run_matrix.md"

    def crash_log(self, stamp: str) -> Path:
        """Where the traceback of an internal error goes."""
        return self.state / f"crash-{stamp}.log"

    def baseline(self, fingerprint: str) -> Path:
        return self.root / "baselines" / fingerprint

    def baseline_scores(self, fingerprint: str) -> Path:
        """Per-utterance scores of the base model; there only when whole (written by rename)."""
        return self.baseline(fingerprint) / "scores.json"

    def baseline_lock(self, fingerprint: str) -> Path:
        return self.state / "locks" / f"baseline-{fingerprint}.lock"

    def data_health(self, key: str) -> Path:
        """The audit of sets with this key, made once, shared by runs; there only when whole (written by rename)."""
        return self.root / "data_health" / key / "health.json"

    def reserve_part(self, key: str, part: int) -> Path:
        """Which run has drawn the part of the reserve with this key."""
        return self.root / "reserve" / key / f"part-{part:03d}.json"

    def search_journal(self, key: str) -> Path:
        """What the search with this key has drawn and heard of, in Optuna's format."""
        return self.root / "search" / f"{key}.jsonl"

    def reserve_lock(self, key: str) -> Path:
        return self.state / "locks" / f"reserve-{key}.lock"

    def data_health_lock(self, key: str) -> Path:
        return self.state / "locks" / f"data-health-{key}.lock"

    def run(self, experiment: str, identity: str) -> RunPaths:
        """The folder of a run; the experiment's id is made safe as a file name."""
        return RunPaths(self.root / f"{_UNSAFE.sub('_', experiment)}-{identity}")

    def find_all(self, identity: str) -> list[RunPaths]:
        """The existing runs with this identity, whichever experiments made them: one, unless folders were copied."""
        names = [name for name in _names(self.root) if name.endswith(f"-{identity}")]
        return [RunPaths(self.root / name) for name in names if is_file(f"{self.root}/{name}/{_CONFIG}")]

    def runs(self) -> list[RunPaths]:
        """All run folders, by name."""
        return [RunPaths(self.root / name) for name in _with_file(self.root, _CONFIG)]


_OLD_NS = 2_000_000_000
_listed: dict[str, tuple[int, list[str]]] = {}
"""Folder → its time of change, and the sorted names in it: a folder of ten thousand runs is asked for each row."""


def _bounded(name: str) -> str:
    """`name`, or where something that is put around it could make it too long for a file system, what stands for it."""
    written = os.fsencode(name)
    if len(written) <= _MOST_BYTES:
        return name
    return f"{_UNSAFE.sub('_', name)[: _MOST_BYTES // 2]}-{hashlib.sha256(written).hexdigest()[:32]}"


def _names(folder: Path) -> list[str]:
    """Of what is in the folder, sorted; none where there is no such folder. RunFolderError: it may not be listed."""
    key = str(folder)
    try:
        changed = folder.stat().st_ctime_ns  # of names, and of permission
        known = _listed.get(key)
        if known is not None and known[0] == changed:
            return known[1]
        names = sorted(os.listdir(key))  # noqa: PTH208 - ten thousand Path objects take their time
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise RunFolderError(
            f"{folder}: cannot be read ({error.strerror}): give yourself permission to list it"
        ) from error
    # Two changes within a tick of the file system's clock have the same time: only an old one tells them apart.
    if time.time_ns() - changed > _OLD_NS:
        _listed[key] = changed, names
    return names


def _with_file(folder: Path, file: str) -> list[str]:
    """Names of the folders in `folder` that hold `file`."""
    return [name for name in _names(folder) if is_file(f"{folder}/{name}/{file}")]
