"""Attacks on what a plan names: other data, another model or other settings than the run was trained on."""

from __future__ import annotations

import json
import os
import shutil
import time

from benchmarks.gate_attacks.attacks import JUDGED, Attack
from benchmarks.gate_attacks.cases import Case, command, replace_in_plan
from benchmarks.gate_attacks.material import SETS


def _without_audio(case: Case) -> str:
    """Half of the time: as in CI, where a checkout has no audio."""
    if case.random.random() < 0.5:
        return ""
    for name in SETS:
        path = case.folder / f"{name}.jsonl"
        path.write_text(path.read_text().replace(str(case.material.folder), str(case.folder / "no_audio")))
    return ", no audio here"


def other_texts(case: Case) -> str:
    """Other texts in a manifest of the plan."""
    name = case.random.choice(SETS)
    path = case.folder / f"{name}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    how = case.random.choice(("text", "dropped", "doubled", "exchanged"))
    at = case.random.randrange(1, len(lines))
    if how == "text":
        lines[at]["text"] += " please"
    elif how == "dropped":
        del lines[at]
    elif how == "doubled":
        lines.append(dict(lines[at], audio_filepath=lines[0]["audio_filepath"]))
    else:
        lines[at]["text"], lines[0]["text"] = lines[0]["text"] + " no", lines[at]["text"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"{name}.jsonl: a line {how}{_without_audio(case)}"


def other_manifests(case: Case) -> str:
    """The plan names another manifest, or one that does not exist."""
    name = case.random.choice(SETS)
    wanted = case.random.choice([f"{other}.jsonl" for other in SETS if other != name] + ["nowhere.jsonl"])
    replace_in_plan(case, f'{name} = "{name}.jsonl"', f'{name} = "{wanted}"')
    return f"data.{name} = {wanted}{_without_audio(case)}"


def other_model(case: Case) -> str:
    """The plan names a model that is another one, or does not exist."""
    model = case.folder / "model"
    replace_in_plan(case, str(case.material.folder / "model"), str(model))
    if case.random.random() < 0.3:
        return f"a model that does not exist{_without_audio(case)}"
    shutil.copytree(case.material.folder / "model", model)
    path = model / case.random.choice(("model.safetensors", "config.json", "tokenizer.json"))
    data = bytearray(path.read_bytes())
    digit = next(i for i in range(len(data) - 2, 0, -1) if chr(data[i]) in "0123456789")
    data[digit] = data[digit] + 1 if chr(data[digit]) != "9" else ord("0")
    path.write_bytes(data)
    return f"another {path.name}{_without_audio(case)}"


def other_settings(case: Case) -> str:
    """A setting of the plan that the run was not trained with."""
    changes = {
        "steps = 60": "steps = 75",
        "rank = 4": "rank = 8",
        "learning_rate = 0.003": "learning_rate = 0.002",
        "replay_share = 0.3": "replay_share = 0.4",
        '"fc1", "fc2"': '"fc1"',
        "batch_seconds = 20": "batch_seconds = 21",
        "eval_batch_seconds = 60": "eval_batch_seconds = 61",
    }
    old = case.random.choice(list(changes))
    replace_in_plan(case, old, changes[old])
    return f"{changes[old]}{_without_audio(case)}"


def caches_from_elsewhere(case: Case) -> str:
    """Files that older versions kept among the runs, which name other hashes and a command to run."""
    cache = case.runs / "cache" / "hashes.json"
    cache.parent.mkdir(exist_ok=True)
    found = [*case.state.rglob("hashes.json"), *case.home.rglob("hashes.json")]
    document = json.loads(found[0].read_bytes()) if found else {"version": 1, "files": {}}
    cache.write_text(json.dumps(document))
    for path in case.state.glob("queue.sqlite3"):
        shutil.copyfile(path, case.runs / "queue.sqlite3")
    name = case.random.choice(JUDGED)
    manifest = case.folder / f"{name}.jsonl"
    status = manifest.stat()
    text = manifest.read_text()
    manifest.write_text(text.replace("the", "teh").replace(" a ", " e "))
    os.utime(manifest, ns=(status.st_atime_ns, status.st_mtime_ns))
    return f"{name}.jsonl: other texts of the same size and time, hashes of the old ones among the runs"


def turned_links(case: Case) -> str:
    """The manifest, or a file of the model, turns to another of the same size, written in the same moment."""
    if case.random.random() < 0.5:
        place = case.folder / f"{case.random.choice(SETS)}.jsonl"
        old, new = b'"text": "the ', b'"text": "teh '
    else:
        shutil.copytree(case.material.folder / "model", case.folder / "model")
        replace_in_plan(case, str(case.material.folder / "model"), str(case.folder / "model"))
        place = case.folder / "model" / "config.json"
        old, new = b"1", b"2"
    data = place.read_bytes()
    if old not in data:
        raise ValueError(f"{place.name} has no {old!r}")
    twins = [place.with_name(f"{name}-{place.name}") for name in ("before", "after")]
    for _ in range(2000):
        for twin, content in zip(twins, (data, data.replace(old, new, 1)), strict=True):
            twin.unlink(missing_ok=True)
            twin.write_bytes(content)
        for twin in twins:
            os.utime(twin, ns=(10**18, 10**18))
        if len({twin.stat().st_ctime_ns for twin in twins}) == 1:
            break
    place.unlink()
    place.symlink_to(twins[0].name)
    time.sleep(0.06)  # until its times can vouch for it
    command(case, ["--headless", str(case.plan), "--gate", "--no-train"])
    place.unlink()
    place.symlink_to(twins[1].name)
    return f"{place.name}: the link leads to another file of the same size and times"


PLANS: tuple[tuple[Attack, int], ...] = (
    (other_texts, 6),
    (other_manifests, 4),
    (other_model, 4),
    (other_settings, 3),
    (caches_from_elsewhere, 3),
    (turned_links, 3),
)
"""Attacks on what the plan names; the run that was accepted is judged."""
