"""Attacks on what a run left: each changes a case and says how. They are seeded: the same number is the same attack."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gate_attacks.cases import Case, replace_in_plan
from benchmarks.gate_attacks.edits import (
    digests,
    edit,
    edit_lines,
    leaves,
    odd_file,
    other_value,
    random_edit,
    rehash,
    settle,
    spoil,
)

JUDGED = ("domain", "heldout")


Attack = Callable[[Case], str]


def documents(run: Path) -> list[Path]:
    """Every JSON document that a verdict may rest upon."""
    found = [run / "run.json", run / "result.json", run / "data_health.json", *run.glob("evals/*.json")]
    found += [*run.glob("evals/*/*.json"), *run.glob("adapters/*/*.json"), *run.glob("exports/*/*.json")]
    return sorted(path for path in found if path.is_file())


def best(run: Path) -> Path:
    """The evaluations of the best interval."""
    return run / "evals" / (run / "lora_adapter_best").readlink().name


def edited_document(case: Case) -> str:
    """One place of one document, half of the time with every hash of it."""
    path = case.random.choice(documents(case.run))
    before = digests(path)
    said = f"{path.relative_to(case.run)}: {random_edit(case.random, path)}"
    return said + _follow(case, before)


def edited_score(case: Case) -> str:
    """One place of one score document that the verdict's figures come from."""
    paths = [case.run / "evals" / "tuned", case.run / "evals" / "step-000000", best(case.run)]
    path = case.random.choice(paths) / f"{case.random.choice(JUDGED)}.json"
    before = digests(path)
    return f"{path.relative_to(case.run)}: {random_edit(case.random, path)}{_follow(case, before)}"


def two_documents(case: Case) -> str:
    """One place each of two documents."""
    return f"{edited_document(case)}; {edited_document(case)}"


def same_edit_twice(case: Case) -> str:
    """The same key set to the same value in two score documents of one set."""
    name = case.random.choice(JUDGED)
    folders = case.random.sample([case.run / "evals" / "tuned", case.run / "evals" / "step-000000", best(case.run)], 2)
    paths = [folder / f"{name}.json" for folder in folders]
    before = digests(*paths)
    index = case.random.randrange(40)
    key = case.random.choice(("id", "reference", "hypothesis", "seconds", "speaker", "fields", "reference_words"))
    value = other_value(case.random, json.loads(paths[0].read_bytes())["utterances"][index].get(key))
    for path in paths:
        edit(path, lambda document: document["utterances"][index].__setitem__(key, value))
    return f"{name}: {key} of utterance {index} in {' and '.join(f.name for f in folders)}{_follow(case, before)}"


def _follow(case: Case, before: dict[str, str]) -> str:
    if case.random.random() < 0.5:
        count = rehash(case.run, before)
        return f" and {count} files with its hash" if count else ""
    return ""


def _settled(case: Case, before: dict[str, str]) -> str:
    """Half of the time as `_follow`, else the run's last word is written anew, over the files as they are."""
    if case.random.random() < 0.5:
        return _follow(case, before)
    settle(case.run)
    return " and the run's last word"


def spoiled_file(case: Case) -> str:
    """Bytes of one file."""
    paths = [*documents(case.run), case.run / "events.jsonl", *case.run.glob("adapters/*/*.safetensors")]
    path = case.random.choice(paths)
    return f"{path.relative_to(case.run)}: {spoil(case.random, path)}"


def odd_files(case: Case) -> str:
    """Something that is no plain file."""
    paths = [*documents(case.run), case.run / "events.jsonl", case.run / "log.txt", case.runs / "decisions.jsonl"]
    paths += case.run.glob("adapters/*/*.safetensors")
    path = case.random.choice([path for path in paths if path.exists()])
    return f"{path.relative_to(case.runs)}: {odd_file(case.random, path, case.outside)}"


def better_scores(case: Case) -> str:
    """Transcripts made right, counts and all, in one or two of the places that tell them."""
    places = case.random.sample(("tuned", "own", "events"), case.random.choice((1, 2)))
    names = JUDGED if case.random.random() < 0.5 else (case.random.choice(JUDGED),)
    share = case.random.choice((0.1, 0.5, 1.0))
    folders = {"tuned": case.run / "evals" / "tuned", "own": best(case.run)}
    before: dict[str, str] = {}
    for name in names:
        counts: dict[str, Any] = {}
        for folder in folders.values():
            path = folder / f"{name}.json"
            document = json.loads(path.read_bytes())
            before |= digests(path)
            for utterance in document["utterances"][: int(share * len(document["utterances"]))]:
                for kind in ("substitutions", "deletions", "insertions"):
                    document["counts"][kind] -= utterance[kind]
                    utterance[kind] = 0
                utterance["hypothesis"] = utterance["reference"]
            counts = document["counts"]
            if folder == folders.get(next((p for p in places if folders.get(p) == folder), "")):
                path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        if "events" in places:
            _interval(case, int(best(case.run).name.rpartition("-")[2]), name, counts)
    return f"{', '.join(names)} better in {' and '.join(places)}{_follow(case, before)}"


def worse_baseline(case: Case) -> str:
    """The base model made deaf, counts and all, in one or two of the places that tell of it."""
    places = case.random.sample(("document", "events", "cache"), case.random.choice((1, 2)))
    name, before = case.random.choice(JUDGED), digests(case.run / "evals" / "step-000000" / "domain.json")
    files = [case.run / "evals" / "step-000000" / f"{name}.json"] if "document" in places else []
    cached = [p for p in case.runs.glob("baselines/*/scores.json") if "cache" in places]
    before |= digests(*files, *cached)
    for path in cached:
        document = json.loads(path.read_bytes())
        document["transcripts"]["hypotheses"] = ["" for _ in document["transcripts"]["hypotheses"]]
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    counts: dict[str, Any] = {}
    for path in files or [case.run / "evals" / "step-000000" / f"{name}.json"]:
        document = json.loads(path.read_bytes())
        for kind in ("substitutions", "insertions"):
            document["counts"][kind] = 0
        document["counts"]["deletions"] = document["counts"]["reference_words"]
        for utterance in document["utterances"]:
            utterance |= {"hypothesis": "", "substitutions": 0, "insertions": 0}
            utterance["deletions"] = utterance["reference_words"]
        counts = document["counts"]
        if files:
            path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    if "events" in places:
        _interval(case, 0, name, counts)
    return f"{name} of the base model worse in {' and '.join(places)}{_follow(case, before)}"


def _interval(case: Case, step: int, name: str, counts: dict[str, Any]) -> None:
    def change(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for line in lines:
            if line["event"] == "interval" and line["step"] == step:
                line["sets"][name] |= counts
        return lines

    edit_lines(case.run / "events.jsonl", change)


def fields(case: Case) -> str:
    """Speakers, durations or other fields of the utterances, in one kind of documents or in two."""
    key = case.random.choice(("speaker", "seconds", "fields", "id"))
    name = case.random.choice(JUDGED)
    folders = case.random.sample([case.run / "evals" / "tuned", case.run / "evals" / "step-000000", best(case.run)], 2)
    folders = folders[: case.random.choice((1, 2))]
    before = digests(*(folder / f"{name}.json" for folder in folders))
    values: dict[str, Any] = {
        "speaker": lambda index: f"speaker {index % 2}" if case.random.random() < 2 else None,
        "seconds": lambda index: 0.5 + index,
        "fields": lambda index: {"room": index % 3},
        "id": lambda index: f"clip {index}",
    }
    for folder in folders:

        def change(document: Any) -> None:
            for index, utterance in enumerate(document["utterances"]):
                utterance[key] = values[key](index)

        edit(folder / f"{name}.json", change)
    return f"{name}: {key} of all utterances in {' and '.join(f.name for f in folders)}{_follow(case, before)}"


def exchanged_files(case: Case) -> str:
    """Two files of the run exchanged, or one taken from the other run."""
    mine = documents(case.run)
    if case.random.random() < 0.4:
        one, two = case.random.sample(mine, 2)
        data = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(data)
        return f"{one.relative_to(case.run)} and {two.relative_to(case.run)} exchanged"
    path = case.random.choice([*mine, case.run / "events.jsonl", *case.run.glob("adapters/*/*.safetensors")])
    theirs = case.other / path.relative_to(case.run)
    if not theirs.is_file():
        theirs = best(case.other) / path.name
    if not theirs.is_file():
        return edited_document(case)
    before = digests(path)
    path.write_bytes(theirs.read_bytes())
    return f"{path.relative_to(case.run)} of the other run{_follow(case, before)}"


def grafted_folders(case: Case) -> str:
    """One or two parts of the other run in place of the run's own."""
    parts = case.random.sample(("evals", "adapters", "events.jsonl", "result.json", "evals/tuned"), 2)
    parts = parts[: case.random.choice((1, 2))]
    for part in parts:
        mine, theirs = case.run / part, case.other / part
        if theirs.is_dir():
            shutil.rmtree(mine, ignore_errors=True)
            shutil.copytree(theirs, mine, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(theirs, mine)
    return f"{' and '.join(parts)} of the other run"


def impersonation(case: Case) -> str:
    """The other run under the name of this one, with its identity, settings or hashes in run.json."""
    config = json.loads((case.run / "run.json").read_bytes())
    name = case.run
    shutil.rmtree(case.run)
    shutil.copytree(case.other, name, symlinks=True)
    keys = case.random.sample(("identity", "settings", "hashes", "experiment", "lines"), case.random.randrange(5))
    edit(name / "run.json", lambda document: document.update({key: config[key] for key in keys if key in config}))
    return f"the other run under this name, its own {', '.join(keys) or 'nothing'} in run.json"


def events(case: Case) -> str:
    """One or two lines of the events changed, dropped, doubled, moved."""
    said: list[str] = []

    def change(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for _ in range(case.random.choice((1, 1, 2))):
            kinds = ("interval", "adapter", "final", "attempt_started", None)
            kind = case.random.choice(kinds)
            chosen = [i for i, line in enumerate(lines) if kind is None or line["event"] == kind]
            if not chosen:
                continue
            at = case.random.choice(chosen)
            how = case.random.randrange(5)
            said.append(f"{lines[at]['event']} {('edited', 'edited', 'dropped', 'doubled', 'moved')[how]}")
            if how <= 1:
                holder, key = case.random.choice(list(leaves(lines[at])))
                holder[key] = other_value(case.random, holder[key])
            elif how == 2:
                del lines[at]
            elif how == 3:
                lines.insert(case.random.randrange(len(lines) + 1), dict(lines[at]))
            else:
                lines.insert(case.random.randrange(len(lines)), lines.pop(at))
        return lines

    edit_lines(case.run / "events.jsonl", change)
    return f"events: {', '.join(said)}"


def links(case: Case) -> str:
    """A link of the run, or a folder of it, leads elsewhere."""
    kind = case.random.randrange(5)
    if kind == 0:
        link = case.run / case.random.choice(("lora_adapter_best", "lora_adapter_last"))
        names = [
            "adapters/step-000060",
            "adapters/step-000030",
            "../../outside/folder",
            str(case.outside / "folder"),
            ".",
        ]
        target = case.random.choice(names)
        link.unlink()
        link.symlink_to(target)
        return f"{link.name} → {'outside' if 'outside' in target else target}"
    if kind == 1:
        part = case.random.choice(("evals", "adapters", "evals/tuned", "evals/step-000000"))
        moved = case.outside / "moved"
        shutil.move(str(case.run / part), moved)
        (case.run / part).symlink_to(moved)
        return f"{part} is a link to a folder outside"
    if kind == 2:
        part = case.random.choice(("evals", "adapters", "evals/tuned"))
        theirs = case.other / part
        shutil.rmtree(case.run / part)
        (case.run / part).symlink_to(theirs)
        return f"{part} is a link into the other run"
    if kind == 3:
        (case.run / "checkpoints").mkdir(exist_ok=True)
        for step in (15, 30, 45):
            (case.run / "checkpoints" / f"step-{step:06d}").symlink_to(case.outside / "folder")
        (case.run / "adapters" / "step-000099").symlink_to(case.outside / "folder")
        return "checkpoints and an adapter are links to a folder outside"
    moved = case.outside / "run"
    shutil.move(str(case.run), moved)
    case.run.symlink_to(moved)
    return "the run folder is a link to a folder outside"


def thresholds(case: Case) -> str:
    """Looser thresholds, or another plan, in run.json."""
    loose = {"domain_gain": -100.0, "heldout_regression": 100.0, "stability_range": 100.0, "accept_leakage": "fine"}

    def change(document: Any) -> None:
        document["gate"] = {**(document.get("gate") or {}), **loose}
        document["plan"] = str(case.outside / "plan.toml")

    before = digests(case.run / "run.json")
    edit(case.run / "run.json", change)
    return f"run.json: looser thresholds{_follow(case, before)}"


def facts_of_the_adapter(case: Case) -> str:
    """A fact in the best adapter's reproduce.json or adapter_config.json."""
    path = case.run / "lora_adapter_best" / case.random.choice(("reproduce.json", "adapter_config.json"))
    before = digests(path)
    return f"{path.name}: {random_edit(case.random, path)}{_follow(case, before)}"


def stored_figures(case: Case) -> str:
    """What is stored of how sure the WERs are, of positions or of the data audit, its checksum made anew."""
    paths = [
        *case.run.glob("evals/*.json"),
        case.run / "data_health.json",
        *case.runs.glob("data_health/*/health.json"),
    ]
    path = case.random.choice(paths)
    before = digests(path)
    said = random_edit(case.random, path)

    def checksum(document: Any) -> None:
        if isinstance(document, dict) and "checksum" in document:
            content = {key: value for key, value in document.items() if key != "checksum"}
            document["checksum"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    edit(path, checksum)
    return f"{path.name}: {said}{_follow(case, before)}"


def queue_files(case: Case) -> str:
    """The files of the queue and the caches spoiled or replaced."""
    paths = [path for path in (*case.state.rglob("*"), case.runs / "decisions.jsonl") if path.is_file()]
    path = case.random.choice(paths)
    if case.random.random() < 0.5:
        return f"{path.name}: {odd_file(case.random, path, case.outside)}"
    return f"{path.name}: {spoil(case.random, path)}"


def long_transcripts(case: Case) -> str:
    """A transcript so long, and so nearly the same again and again, that comparing it may take minutes."""
    name = case.random.choice(JUDGED)
    parts = ["a" * case.random.choice((3_000, 30_000)) for _ in range(3)]
    text = "b".join(parts) if case.random.random() < 0.5 else " b ".join(" ".join(part) for part in parts)

    def change(document: Any) -> None:
        chosen = document["utterances"][0]
        chosen["reference"] = chosen["hypothesis"] = text
        document["capped"] = [chosen["id"]]

    paths = [case.run / "evals" / folder / f"{name}.json" for folder in ("tuned", "step-000000")]
    before = digests(*paths)
    for path in paths:
        edit(path, change)
    return f"{name}: an utterance of {len(text)} letters{_follow(case, before)}"


def forged_candidate(case: Case) -> str:
    """A candidate that the run never made stands for its best: adapter, scores, event, link, and maybe the result."""
    last = (case.run / "lora_adapter_last").readlink().name
    step = int(last.rpartition("-")[2])
    way = case.random.choice((0.3, 0.4))
    name = f"{last}-x{way:.2f}"
    before = digests(case.run / "events.jsonl", case.run / "result.json")
    for room in ("adapters", "evals"):
        shutil.copytree(case.run / room / (case.run / "lora_adapter_best").readlink().name, case.run / room / name)
    edit(
        case.run / "adapters" / name / "reproduce.json",
        lambda facts: facts.update({"step": step, "made_of": [step], "way": way}),
    )
    scores = {path.stem: json.loads(path.read_text()) for path in (case.run / "evals" / name).glob("*.json")}
    sets = {key: {**score["counts"], "loss": score["loss"]} for key, score in scores.items()}
    told = {"event": "candidate_scored", "name": name, "made_of": [step], "alpha": way, "best": True, "seconds": 1.0}

    def add(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        digest = next((line["hash"] for line in lines if line["event"] == "adapter" and line["best"]), "")
        event = told | {"hash": digest, "sets": sets, "attempt": lines[-1]["attempt"], "time": lines[-1]["time"]}
        return [*lines[:-1], event, lines[-1]]

    edit_lines(case.run / "events.jsonl", add)
    (case.run / "lora_adapter_best").unlink()
    (case.run / "lora_adapter_best").symlink_to(f"adapters/{name}")
    if case.random.random() < 0.5:
        return f"a candidate that was never made, {name}"
    edit(case.run / "result.json", lambda result: result.update({"candidate": name, "best_step": step}))
    rehash(case.run, before)
    return f"a candidate that was never made, {name}, and a result that says so"


def _as(document: dict[str, Any], **changes: Any) -> str:
    return json.dumps(document | changes, indent=1, sort_keys=True) + "\n"


def reserve(case: Case) -> str:
    """The scores on the reserve, the part that was drawn, who drew it, or that there is a reserve at all."""
    run, before = case.run, digests(*documents(case.run))
    [claim] = case.runs.glob("reserve/*/part-001.json")
    theirs, drawn = case.other / "evals" / "reserve", run / "evals" / "reserve" / "drawn.json"
    kinds = ["unnamed", "claim", "none"]
    kind = case.random.choice([*kinds, "ordinary", "part", "edited"] if drawn.is_file() else [*kinds, "stolen"])
    if kind == "unnamed":
        said = "run.json names no reserve any more"
        gone = dict.fromkeys(("reserve_domain", "reserve_heldout"))
        edit(run / "run.json", lambda document: document["settings"]["data"].update(gone))
    elif kind == "claim":
        said = "the claim of its part is another run's"
        claim.write_text(json.dumps({"run": case.random.choice((case.other.name, "x", 1, None))}))
    elif kind == "none":
        said = "no claims"
        shutil.rmtree(case.runs / "reserve")
        if case.random.random() < 0.5:
            (case.runs / "reserve").symlink_to(case.outside / "folder")
    elif kind == "stolen":
        said = "the other run's part and scores, with its own adapter"
        shutil.copytree(theirs, drawn.parent)
        digest = json.loads((run / "evals" / "tuned" / "domain.json").read_text())["adapter_hash"]
        for path in drawn.parent.glob("*-tuned.json"):
            path.write_text(_as(json.loads(path.read_text()), adapter_hash=digest))
    elif kind == "part":
        said = "another part, or another number of them"
        edit(
            drawn, lambda document: document.update({case.random.choice(("part", "of")): case.random.randrange(-1, 9)})
        )
    elif kind == "edited":
        path = case.random.choice(sorted(drawn.parent.glob("*.json")))
        said = f"{path.name}: {random_edit(case.random, path)}"
    else:
        said = "copies of the ordinary scores"
        told = json.loads(drawn.read_text())
        for name in JUDGED:
            for who, folder in (("base", "step-000000"), ("tuned", "tuned")):
                document = json.loads((run / "evals" / folder / f"{name}.json").read_text())
                told["sets"][name]["manifest_sha256"] = document["manifest_sha256"]
                place = drawn.parent / f"{name}-{who}.json"
                place.write_text(_as(document, dataset=f"reserve_{name}", single=None))
            told["sets"][name]["lines_sha256"] = json.loads((run / "run.json").read_text())["lines"][name]
        drawn.write_text(_as(told))
    return f"reserve: {said}{_settled(case, before)}"


def exported(case: Case) -> str:
    """What was exported, what its runtime made of the sets, or whose it is."""
    kind = case.random.choice(("list", "folder", "copied", "renamed", "edited", "odd"))
    mine = case.run / "exports" / "hf-float32"
    if not mine.is_dir():
        shutil.copytree(case.other / "exports", case.run / "exports")
        digest = json.loads((case.run / "evals" / "tuned" / "domain.json").read_text())["adapter_hash"]
        edit(mine / "export.json", lambda document: document.update({"adapter_hash": digest}))
        for name in JUDGED:
            edit(mine / f"{name}.json", lambda document: document.update({"adapter_hash": digest}))
    before = digests(*documents(case.run))
    told = mine / "export.json"
    if kind == "list":
        many = {f"{number}": {"bytes": 1 << 60, "sha256": "0"} for number in range(20_000)}
        files = case.random.choice(({}, {"../../run.json": {"bytes": 1, "sha256": "0"}}, many))
        edit(told, lambda document: document.update({"files": files}))
        said = f"lists {len(files)} files"
    elif kind == "folder":
        place = case.random.choice(("/", "/proc/self", str(case.outside), "relative", "x" * 5000))
        edit(told, lambda document: document.update({"folder": place}))
        said = f"is in {place[:20]}"
    elif kind == "copied":
        for name in JUDGED:
            (mine / f"{name}.json").write_bytes((case.run / "evals" / "tuned" / f"{name}.json").read_bytes())
            own = hashlib.sha256((mine / f"{name}.json").read_bytes()).hexdigest()
            same = {"sha256": own, "changed": 0, "rise_pp": 0.0}
            edit(told, lambda document, name=name, same=same: document["sets"][name].update(same))
        said = "the tuned scores in place of the runtime's"
    elif kind == "renamed":
        mine.rename(mine.with_name("ct2-int8"))
        edit(mine.with_name("ct2-int8") / "export.json", lambda document: document.update({"target": "ct2:int8"}))
        replace_in_plan(case, 'runtime = "hf:float32"', 'runtime = "ct2:int8"')
        return f"export: of another form and name{_follow(case, before)}"
    elif kind == "odd":
        said = odd_file(case.random, case.random.choice(sorted(mine.iterdir())), case.outside)
    else:
        path = case.random.choice(sorted(mine.iterdir()))
        said = f"{path.name}: {random_edit(case.random, path)}"
    return f"export: {said}{_follow(case, before)}"


def selection(case: Case) -> str:
    """What the candidates, or the base model, did on the selection sets; the link may follow."""
    run, before = case.run, digests(*documents(case.run))
    names = ("selection", "selection_heldout")
    kind = case.random.choice(("worse", "stripped", "edited", "many"))
    chosen = (run / "lora_adapter_best").readlink().name
    if kind == "stripped":
        base_only = case.random.random() < 0.5

        def strip(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
            for line in lines:
                if line["event"] == "interval" and (not base_only or line["step"] == 0):
                    line["sets"] = {name: line["sets"][name] for name in line["sets"] if name not in names}
            return lines

        edit_lines(run / "events.jsonl", strip)
        said = f"not in the events of {'the base model' if base_only else 'all intervals'}"
    elif kind == "many":
        told = {"event": "candidate_scored", "alpha": 0.5, "hash": "x", "sets": {}, "seconds": 1.0, "best": False}

        def add(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
            told.update({"attempt": lines[-1]["attempt"], "time": lines[-1]["time"]})
            steps = range(1, 20_001)
            more = [told | {"name": f"step-{step:06d}-x0.50", "made_of": [step]} for step in steps]
            return [*lines[:-1], *more, lines[-1]]

        edit_lines(run / "events.jsonl", add)
        said = "20,000 candidates in the events"
    elif kind == "edited":
        path = case.random.choice(sorted(path for name in names for path in run.glob(f"evals/*/{name}.json")))
        said = f"{path.relative_to(run)}: {random_edit(case.random, path)}"
    else:
        for path in (run / "evals" / chosen / f"{name}.json" for name in names):

            def spoil_all(document: Any) -> None:
                for utterance in document["utterances"]:
                    utterance |= {"hypothesis": "", "substitutions": 0, "insertions": 0}
                    utterance["deletions"] = utterance["reference_words"]
                counts = {"substitutions": 0, "insertions": 0}
                document["counts"] |= counts | {"deletions": document["counts"]["reference_words"]}

            edit(path, spoil_all)
        said = f"{chosen} worse on disk"
    others = [path.name for path in (run / "adapters").iterdir() if path.name != chosen]
    if others and case.random.random() < 0.5:
        other = case.random.choice(others)
        (run / "lora_adapter_best").unlink()
        (run / "lora_adapter_best").symlink_to(f"adapters/{other}")
        said += f", and the link leads to {other}"
    return f"selection sets: {said}{_settled(case, before)}"


def second_copy(case: Case) -> str:
    """A second run folder of the same identity, with better or worse figures, older or newer."""
    copy = case.runs / f"{case.random.choice(('A', 'z'))}-{case.run.name.rpartition('-')[2]}"
    shutil.copytree(case.run, copy, symlinks=True)
    when = case.random.choice((1, 2_000_000_000))
    for path in (copy, copy / "result.json", copy / "events.jsonl"):
        os.utime(path, (when, when))
    renamed = case.run
    name = case.target
    case.target = "a" if name == "r" else "r"
    shutil.copytree(case.run / "evals", copy / "evals", dirs_exist_ok=True)
    case.target = name
    return f"{copy.name} beside {renamed.name}, with the other run's scores"


EVIDENCE: tuple[tuple[Attack, int], ...] = (
    (edited_document, 14),
    (edited_score, 12),
    (two_documents, 8),
    (same_edit_twice, 8),
    (spoiled_file, 8),
    (odd_files, 6),
    (better_scores, 8),
    (worse_baseline, 6),
    (fields, 6),
    (exchanged_files, 6),
    (grafted_folders, 4),
    (impersonation, 4),
    (events, 8),
    (links, 6),
    (forged_candidate, 3),
    (reserve, 10),
    (exported, 10),
    (selection, 10),
    (thresholds, 2),
    (facts_of_the_adapter, 5),
    (stored_figures, 6),
    (queue_files, 5),
    (second_copy, 3),
    (long_transcripts, 3),
)
"""Attacks on what a run left, with how often each is drawn."""
