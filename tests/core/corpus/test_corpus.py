"""The embedded speech corpus: reproducible, and its evaluation sets apart from what is trained on."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.corpus import build as corpus
from core.corpus.build import noise, rms, usual_sets
from core.corpus.recipe import Recipe, make_texts, plan_corpus, read_recipe, read_vocabulary
from core.corpus.synth import Prosody, Synthesiser
from core.errors import UserError

DATA = Path(__file__).parents[3] / "data"
SMALL = {"heldout": 6, "domain": 4, "train": 5, "replay": 4, "base": 6}
LINE = {"audio_filepath", "text", "duration", "speaker", "accent", "rate_wpm", "snr_db"}


def small_recipe(folder: Path, **counts: int) -> Path:
    """The shipped recipe with a few utterances a set."""
    text = (DATA / "recipe.toml").read_text()
    for name, count in {**SMALL, **counts}.items():
        text = re.sub(rf"(\[sets\.{name}\][^\[]*?\ncount = )\d+", rf"\g<1>{count}", text)
    text = text.replace('"texts/', f'"{DATA}/texts/')
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def shipped() -> Recipe:
    return read_recipe(DATA / "recipe.toml")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("corpus")
    assert corpus.main(["--recipe", str(small_recipe(folder)), "--out", str(folder), "--jobs", "2"]) == 0
    return folder


def test_the_command_builds_it_in_processes_of_its_own(tmp_path: Path, built: Path) -> None:
    """They import the module that does the work, which they cannot where it is the one that was started."""
    recipe = ["--recipe", str(small_recipe(tmp_path)), "--out", str(tmp_path), "--sets", "domain", "--jobs", "2"]
    done = subprocess.run([sys.executable, "-m", "core.corpus", *recipe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "clip/s" not in done.stderr  # no bar goes into a log
    assert manifest(tmp_path, "domain") == manifest(built, "domain")


def manifest(folder: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / f"{name}_manifest.jsonl").read_text().splitlines()]


def audio_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("audio/*/*.flac"))}


# --- the plan of the shipped recipe


def test_no_text_is_said_twice_in_the_whole_corpus(shipped: Recipe) -> None:
    texts = [utterance.text for utterances in plan_corpus(shipped).values() for utterance in utterances]
    assert len(texts) == 12000 + 800 + 1000 + 1500 + 500
    assert len(set(texts)) == len(texts)


def test_evaluation_voices_are_heard_nowhere_else(shipped: Recipe) -> None:
    plan = plan_corpus(shipped)
    variants = {name: {one.speaker.split("+")[1] for one in utterances} for name, utterances in plan.items()}
    for evaluation in ("heldout", "domain"):
        for other in variants.keys() - {evaluation}:
            assert not variants[evaluation] & variants[other]


def test_base_says_every_general_word_at_least_fifteen_times(shipped: Recipe) -> None:
    said = Counter(word for one in plan_corpus(shipped)["base"] for word in one.text.split())
    words = shipped.vocabularies["general"].words
    assert len(words) >= 600
    assert len(shipped.vocabularies["general"].patterns) >= 60
    assert min(said[word] for word in words) >= 15


def test_train_says_every_word_of_the_trade(shipped: Recipe) -> None:
    plan = plan_corpus(shipped)
    said = Counter(word for one in plan["train"] for word in one.text.split())
    jargon = set(shipped.vocabularies["shop"].words) - set(shipped.vocabularies["general"].words)
    assert len(jargon) >= 150
    assert min(said[word] for word in jargon) >= 1


def test_the_plan_of_an_evaluation_set_does_not_depend_on_other_sets(tmp_path: Path) -> None:
    few = plan_corpus(read_recipe(small_recipe(tmp_path)))
    more = plan_corpus(read_recipe(small_recipe(tmp_path, train=40, base=90)))
    assert few["heldout"] == more["heldout"]
    assert few["domain"] == more["domain"]


def test_what_a_set_has_beyond_its_count_changes_no_set_without_it(shipped: Recipe) -> None:
    plan, larger = plan_corpus(shipped), plan_corpus(shipped, more=True)
    for name, utterances in plan.items():
        assert larger[name][: len(utterances)] == utterances
        assert len(larger[name]) == len(utterances) + shipped.sets[name].more
        assert len({one.id for one in larger[name]}) == len(larger[name])
    texts = [one.text for utterances in larger.values() for one in utterances]
    assert len(set(texts)) == len(texts)
    assert {one.speaker for one in larger["heldout"]} == {one.speaker for one in plan["heldout"]}


def test_sets_beyond_all_counts_are_made_only_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe(tmp_path)
    assert "selection" not in usual_sets(read_recipe(recipe))
    assert "selection" in usual_sets(read_recipe(recipe), more=True)
    assert corpus.main(["--recipe", str(recipe), "--out", str(tmp_path), "--sets", "selection"]) == 4
    assert "--sets: all of selection is beyond its count: give --more" in capsys.readouterr().err


def test_no_two_words_sound_alike() -> None:
    pytest.importorskip("espeakng_loader")
    synthesiser = Synthesiser()
    general = set(read_vocabulary(DATA / "texts/general.toml").words)
    shop = set(read_vocabulary(DATA / "texts/shop.toml").words)
    for accent in ("en-us", "en", "en-gb-x-rp", "en-us-nyc", "en-gb-scotland"):
        sounds: dict[str, list[str]] = {}
        for word in sorted(general | shop):
            sounds.setdefault(re.sub("[ˈˌ ]", "", synthesiser.phonemes(word, accent)), []).append(word)
        assert [words for words in sounds.values() if len(words) > 1] == []


def test_committed_manifests_are_those_of_the_recipe(shipped: Recipe) -> None:
    for name, utterances in plan_corpus(shipped).items():
        if name == "base" or not utterances:
            continue
        said = [(line["text"], line["speaker"]) for line in manifest(DATA, name)]
        assert said == [(one.text, one.speaker) for one in utterances]


def test_words_run_out_with_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "few.toml"
    path.write_text('[words]\nname = "anna ben"\n[patterns]\nsentences = "{name} met the dog"')
    with pytest.raises(UserError, match=r"few\.toml: too few words and patterns for 5 different texts"):
        make_texts(read_vocabulary(path), 5, 0.0, np.random.default_rng(1), set())


# --- the files


def test_manifest_and_audio_have_the_promised_form(built: Path) -> None:
    for name in ("heldout", "domain", "train", "replay"):
        lines = manifest(built, name)
        assert len(lines) == SMALL[name]
        for number, line in enumerate(lines, 1):
            assert line.keys() == LINE
            assert line["audio_filepath"] == f"audio/{name}/{name}_{number:05d}.flac"
            assert re.fullmatch(r"[a-z']+( [a-z']+){2,8}", str(line["text"]))
            with soundfile.SoundFile(built / str(line["audio_filepath"])) as file:
                assert (file.samplerate, file.channels, file.subtype) == (16000, 1, "PCM_16")
                samples = file.read()
            assert line["duration"] == round(len(samples) / 16000, 3)
            assert 0.5 < len(samples) / 16000 < 6
            assert 0.015 < rms(samples) < 0.32
            assert np.max(np.abs(samples)) < 1


def test_base_is_built_only_on_request(built: Path) -> None:
    assert not (built / "base_manifest.jsonl").exists()
    assert not (built / "audio/base").exists()


def test_bytes_are_the_same_with_other_workers_and_alone(built: Path, tmp_path: Path) -> None:
    recipe = read_recipe(small_recipe(tmp_path))
    corpus.build_corpus(recipe, tmp_path, ["replay", "domain", "train", "heldout"], jobs=1)
    assert audio_bytes(tmp_path) == audio_bytes(built)
    for name in ("train", "replay", "domain", "heldout"):
        assert (tmp_path / f"{name}_manifest.jsonl").read_bytes() == (built / f"{name}_manifest.jsonl").read_bytes()


def test_speech_does_not_depend_on_what_was_said_before() -> None:
    pytest.importorskip("espeakng_loader")
    synthesiser, calm = Synthesiser(), Prosody(160, 50, 50)
    said = {voice: synthesiser.speak("the bilge pump", voice, calm) for voice in ("en-us+f2", "en+m4", "en-029+sandro")}
    again = Synthesiser()
    for voice in reversed(said):
        np.testing.assert_array_equal(again.speak("the bilge pump", voice, calm), said[voice])


def test_what_is_built_is_not_built_again(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--recipe", str(built / "recipe.toml"), "--out", str(built), "--jobs", "1"]
    assert corpus.main(arguments) == 0
    assert "built: nothing" in capsys.readouterr().err


def test_a_lost_file_a_changed_manifest_and_a_changed_plan_are_built_again(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    recipe = read_recipe(small_recipe(tmp_path, domain=1))
    assert corpus.build_corpus(recipe, tmp_path, ["domain"], jobs=1) == ["domain"]
    utterances = plan_corpus(recipe)["domain"]
    assert corpus.is_built(tmp_path, "domain", utterances)
    assert not corpus.is_built(tmp_path, "domain", plan_corpus(read_recipe(small_recipe(tmp_path)))["domain"])
    path = tmp_path / "domain_manifest.jsonl"
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    assert not corpus.is_built(tmp_path, "domain", utterances)
    path.write_bytes(content)
    (tmp_path / "audio/domain/domain_00001.flac").unlink()
    assert not corpus.is_built(tmp_path, "domain", utterances)


def test_an_interrupted_build_leaves_the_old_set_whole(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = audio_bytes(built), (built / "train_manifest.jsonl").read_bytes()
    monkeypatch.setattr(corpus, "_manifest_entry", interrupt)
    arguments = [
        "--recipe",
        str(built / "recipe.toml"),
        "--out",
        str(built),
        "--sets",
        "train",
        "--force",
        "--jobs",
        "1",
    ]
    assert corpus.main(arguments) == 2
    assert (audio_bytes(built), (built / "train_manifest.jsonl").read_bytes()) == before
    assert "interrupted" in capsys.readouterr().err


def test_noise_is_seeded_and_of_rms_one() -> None:
    one, same = (noise(5001, 16000, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert rms(one) == pytest.approx(1)


# --- what a user can get wrong


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed =", "sed =", r'recipe\.toml: unknown key "sed": did you mean "seed"\?'),
        ("snr_db =", "snr =", r'\[sets\.heldout\]: unknown key "snr": did you mean "snr_db"\?'),
        ("count = 6", "", r"\[sets\.heldout\]: missing: count"),
        ("count = 6", "count = 100000", r"sets\.heldout\.count must be from 0 to 99999, not 100000"),
        ("count = 4\n", "count = 0\n", r"sets\.domain\.count and \.more together must be from 1 to 99999, not 0"),
        ("count = 6", 'count = "six"', r"sets\.heldout\.count must be a whole number, not 'six'"),
        ("[15.0, 40.0]", "[40.0, 15.0]", r"sets\.heldout\.snr_db must be \[low, high\] within -20 to 100"),
        ('"ordinary_unheard"', '"unknown"', r'sets\.heldout\.voices: there is no "unknown" in \[voices\]'),
        ('"ordinary_unheard"', '"ordinary"', r"sets\.heldout is an evaluation set, but shares the voice Alex"),
        ("random_share = 0.2 ", "random_share = 2 ", r"sets\.heldout\.random_share must be a number from 0 to 1"),
        ("general.toml", "generl.toml", r"generl\.toml: this file of texts is missing"),
        ("[voices]", "[voices", r"recipe\.toml: cannot be read as TOML"),
    ],
)
def test_a_bad_recipe_names_file_key_and_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = small_recipe(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_recipe(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "nowhere.toml"], "nowhere.toml: no such recipe"),
        (["--sets", "train,tarin"], 'has no set "tarin"'),
        (["--jobs", "0"], "--jobs must be 1 or more"),
        (["--job", "x"], "invalid int value"),
    ],
)
def test_bad_usage_ends_with_4_and_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ["--recipe", str(small_recipe(tmp_path))]
    assert corpus.main([*recipe, "--out", str(tmp_path), *arguments]) == 4
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_voice_that_espeak_lacks_is_named(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    path = small_recipe(tmp_path)
    path.write_text(path.read_text().replace('"Tweaky"', '"Tweeky"'))
    with pytest.raises(UserError, match=r'voices\.shop_unheard: espeak-ng has no variant "Tweeky"'):
        corpus.build_corpus(read_recipe(path), tmp_path, ["domain"], jobs=1)


def test_an_accent_that_espeak_lacks_is_named() -> None:
    pytest.importorskip("espeakng_loader")
    with pytest.raises(UserError, match='no speech for the voice "en-nowhere"'):
        Synthesiser().speak("hello", "en-nowhere", Prosody(160, 50, 50))


def test_without_espeak_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[corpus\]'"):
        Synthesiser()
