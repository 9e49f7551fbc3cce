"""Nothing is listed, written or deleted behind a link that lies in a run folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.runs import folder
from core.runs.folder import LinkError
from core.runs.paths import RunPaths


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A user's own folder, which no command may touch."""
    there = tmp_path / "theirs"
    (there / "deep").mkdir(parents=True)
    (there / "thesis.tex").write_text("years of work")
    (there / "deep" / "data.csv").write_text("1,2")
    (there / "complete").write_text("a word that checkpoints use too")
    return there


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "runs" / "a-0123456789"
    made.mkdir(parents=True)
    return made


def tree(top: Path) -> dict[str, str | None]:
    return {str(p.relative_to(top)): p.read_text() if p.is_file() else None for p in sorted(top.rglob("*"))}


def test_a_tree_is_deleted_and_links_in_it_only_as_links(root: Path, theirs: Path) -> None:
    before = tree(theirs)
    (root / "checkpoints" / "step-000001" / "sub").mkdir(parents=True)
    (root / "checkpoints" / "step-000001" / "complete").write_text("whole\n")
    (root / "checkpoints" / "step-000001" / "sub" / "out").symlink_to(theirs)
    (root / "checkpoints" / "step-000001" / "file").symlink_to(theirs / "thesis.tex")
    folder.delete(root, root / "checkpoints" / "step-000001")
    assert folder.names(root, root / "checkpoints") == []
    assert tree(theirs) == before


@pytest.mark.parametrize("place", ["checkpoints/step-000001", "checkpoints", "events.jsonl"])
def test_a_link_is_deleted_as_a_link(root: Path, theirs: Path, place: str) -> None:
    before = tree(theirs)
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).symlink_to(theirs)
    folder.delete(root, root / place)
    assert not (root / place).is_symlink()
    assert tree(theirs) == before


ACTS: dict[str, Callable[[Path], object]] = {
    "delete": lambda root: folder.delete(root, root / "evals" / "deep"),
    "write": lambda root: folder.write_bytes(root, root / "evals" / "thesis.tex", b"x"),
    "write deeper": lambda root: folder.write_json(root, root / "evals" / "deep" / "new.json", {}),
    "append": lambda root: folder.open_append(root, root / "evals" / "thesis.tex"),
    "link": lambda root: folder.replace_link(root, root / "evals" / "best", "x"),
    "make": lambda root: folder.make(root, root / "evals" / "new"),
    "let another program write": lambda root: folder.refuse_link(root, root / "evals" / "deep"),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_nothing_is_done_behind_a_link(root: Path, theirs: Path, act: Callable[[Path], object]) -> None:
    before = tree(theirs)
    (root / "evals").symlink_to(theirs)
    with pytest.raises(LinkError, match="evals: a link"):
        act(root)
    assert tree(theirs) == before


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_nothing_is_done_in_a_run_folder_that_is_a_link(
    root: Path, theirs: Path, act: Callable[[Path], object]
) -> None:
    (theirs / "evals" / "deep").mkdir(parents=True)
    (theirs / "evals" / "thesis.tex").write_text("chapter 2")
    before = tree(theirs)
    linked = root.parent / "b-0123456789"
    linked.symlink_to(theirs)
    with pytest.raises(LinkError, match="b-0123456789: a link"):
        act(linked)
    assert tree(theirs) == before


def test_the_runs_folder_may_be_a_link_to_another_disk(tmp_path: Path, root: Path) -> None:
    (tmp_path / "link").symlink_to(root.parent)
    there = tmp_path / "link" / root.name
    folder.write_text(there, there / "evals" / "a", "x")
    assert folder.names(there, there / "evals") == ["a"]
    folder.delete(there, there / "evals")
    assert folder.names(root, root) == []


def test_behind_a_link_there_is_nothing_to_list_or_to_measure(root: Path, theirs: Path) -> None:
    (root / "checkpoints").symlink_to(theirs)
    assert folder.names(root, root / "checkpoints") == []
    assert folder.subfolders(root, root / "checkpoints") == []
    assert folder.files(root) == [(root / "checkpoints", 0)]
    assert folder.size(root, root / "checkpoints") == 0


def test_appending_goes_to_regular_files_only(root: Path, theirs: Path) -> None:
    before = tree(theirs)
    (root / "log.txt").symlink_to(theirs / "thesis.tex")
    os.mkfifo(root / "events.jsonl")
    for name in ("log.txt", "events.jsonl"):
        with pytest.raises(LinkError, match=name):
            folder.open_append(root, root / name)
    assert tree(theirs) == before


def test_a_write_replaces_a_link_and_leaves_its_target(root: Path, theirs: Path) -> None:
    (root / "run.json").symlink_to(theirs / "thesis.tex")
    folder.write_json(root, root / "run.json", {"a": 1})
    assert not (root / "run.json").is_symlink()
    assert (theirs / "thesis.tex").read_text() == "years of work"
    assert folder.names(root, root) == ["run.json"]


def test_a_file_full_of_holes_takes_what_it_takes(root: Path) -> None:
    with (root / "big").open("wb") as file:
        file.truncate(1 << 40)
    assert folder.size(root, root / "big") < 1 << 20


def test_a_link_is_replaced(root: Path) -> None:
    for target in ("adapters/step-000400", "adapters/step-000800"):
        folder.replace_link(root, root / "best", target)
        assert str((root / "best").readlink()) == target
    assert folder.names(root, root) == ["best"]


def test_the_adapter_that_a_link_means(root: Path) -> None:
    paths = RunPaths(root)
    assert folder.linked_adapter(paths, paths.best) is None
    paths.adapter(400).mkdir(parents=True)
    paths.best.symlink_to("adapters/step-000400")
    assert folder.linked_adapter(paths, paths.best) == "step-000400"


@pytest.mark.parametrize(
    "target",
    ["../../theirs", "/etc", "adapters/../adapters/step-000400", "../a-0123456789/adapters/step-000400", "adapters/x"],
)
def test_a_link_out_of_the_adapters_is_refused(root: Path, theirs: Path, target: str) -> None:
    paths = RunPaths(root)
    paths.adapter(400).mkdir(parents=True)
    paths.best.symlink_to(target)
    with pytest.raises(LinkError, match="leads out of the run's adapters"):
        folder.linked_adapter(paths, paths.best)


def test_adapters_that_lie_elsewhere_are_refused(root: Path, theirs: Path) -> None:
    paths = RunPaths(root)
    paths.adapters.mkdir()
    paths.adapter(400).symlink_to(theirs)
    paths.best.symlink_to("adapters/step-000400")
    with pytest.raises(LinkError, match="step-000400: a link"):
        folder.linked_adapter(paths, paths.best)
    paths.last.mkdir()
    with pytest.raises(LinkError, match="no link into the run's adapters"):
        folder.linked_adapter(paths, paths.last)


def nested(folder_: Path, levels: int) -> Path:
    """`folder_` with so many folders in one another, and a file in the innermost."""
    innermost = folder_.joinpath(*"d" * levels)
    innermost.mkdir(parents=True)
    (innermost / "file").write_text("x")
    return folder_


def test_folders_that_are_nested_for_ever_are_neither_followed_nor_deleted(root: Path) -> None:
    deep, shallow = nested(root / "deep", 200), nested(root / "shallow", 20)
    assert [file.name for file, _ in folder.files(root, shallow)] == ["file"]
    assert folder.files(root, deep) == []
    with pytest.raises(OSError, match="nested too deep"):
        folder.delete(root, deep)
    assert deep.joinpath(*"d" * 200, "file").exists()
    folder.delete(root, shallow)
    assert not shallow.exists()
