import json
from pathlib import Path

import pytest
from score_kit import adapter_facts

from core.errors import RunFolderError
from core.runs.adapter_files import CONFIG, WEIGHTS, adapter_hash, covers_facts


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
    with pytest.raises(RunFolderError, match=r"adapter_config\.json: not (a JSON object|JSON)"):
        adapter_hash(folder)


def with_facts(folder: Path, **changes: object) -> Path:
    config = {"identity": "0123456789", "settings": {}}
    (folder / "reproduce.json").write_text(json.dumps(adapter_facts(7, config) | changes))
    return folder


def test_the_facts_that_it_is_decoded_under_are_covered(tmp_path: Path) -> None:
    bare = adapter_hash(adapter(tmp_path / "a"))
    hashes = {
        bare,
        adapter_hash(with_facts(tmp_path / "a")),
        adapter_hash(with_facts(tmp_path / "a", tokens_per_second=0.3)),
        adapter_hash(with_facts(tmp_path / "a", target_rms=0.5)),
        adapter_hash(with_facts(tmp_path / "a", step=8)),
    }
    assert len(hashes) == 5


def test_an_adapter_of_an_earlier_version_keeps_its_hash_which_does_not_cover_the_facts(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    before = adapter_hash(folder)
    document = adapter_facts(7, {"identity": "0123456789", "settings": {}})
    del document["hash_version"]
    (folder / "reproduce.json").write_text(json.dumps(document))
    assert adapter_hash(folder) == before
    assert not covers_facts(folder) and covers_facts(with_facts(folder))


@pytest.mark.parametrize("version", [0, 3, "2", True, None, [2]])
def test_a_hash_of_another_version_is_named(tmp_path: Path, version: object) -> None:
    with pytest.raises(RunFolderError, match="hash version"):
        adapter_hash(with_facts(adapter(tmp_path / "a"), hash_version=version))


def test_facts_that_are_no_json_are_named(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "reproduce.json").write_text('{"hash_version": 2, "tokens_per_second": NaN}')
    with pytest.raises(RunFolderError, match=r"reproduce\.json: not JSON"):
        adapter_hash(folder)
