import json
from pathlib import Path

import pytest

from core.errors import RunFolderError
from core.runs.adapter_hash import CONFIG, WEIGHTS, adapter_hash


def adapter(folder: Path, weights: bytes = b"w" * 3_000_000, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    document = {"r": 16, "target_modules": ["v_proj", "q_proj"], "use_dora": True} | config
    (folder / CONFIG).write_text(json.dumps(document))
    return folder


def test_the_order_that_peft_writes_does_not_matter(tmp_path: Path) -> None:
    first = adapter(tmp_path / "a")
    again = adapter(tmp_path / "b", target_modules=["q_proj", "v_proj"])
    config = json.loads((again / CONFIG).read_text())
    (again / CONFIG).write_text(json.dumps(dict(reversed(config.items())), indent=4))
    assert adapter_hash(first) == adapter_hash(again)
    assert len(adapter_hash(first)) == 64


def test_every_byte_and_every_setting_matters(tmp_path: Path) -> None:
    hashes = {
        adapter_hash(adapter(tmp_path / "a")),
        adapter_hash(adapter(tmp_path / "b", weights=b"w" * 2_999_999 + b"x")),
        adapter_hash(adapter(tmp_path / "c", r=8)),
        adapter_hash(adapter(tmp_path / "d", target_modules=["q_proj"])),
        adapter_hash(adapter(tmp_path / "e", rank_pattern={"a": [2, 1]})),
        adapter_hash(adapter(tmp_path / "f", rank_pattern={"a": [1, 2]})),
    }
    assert len(hashes) == 6


def test_a_link_gives_the_hash_of_what_it_points_at(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapters" / "step-000400")
    (tmp_path / "best").symlink_to("adapters/step-000400")
    assert adapter_hash(tmp_path / "best") == adapter_hash(folder)


@pytest.mark.parametrize("missing", [WEIGHTS, CONFIG])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    (adapter(tmp_path / "a") / missing).unlink()
    with pytest.raises(RunFolderError, match=rf"a/{missing}: cannot read the adapter"):
        adapter_hash(tmp_path / "a")


@pytest.mark.parametrize("config", ["{", "[]", "\udcff"])
def test_a_broken_configuration_is_named(tmp_path: Path, config: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / CONFIG).write_bytes(config.encode(errors="surrogateescape"))
    with pytest.raises(RunFolderError, match=r"adapter_config\.json: not (a JSON object|valid JSON)"):
        adapter_hash(folder)
