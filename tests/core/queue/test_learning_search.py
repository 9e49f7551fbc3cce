"""The search that learns from results: what it draws, is told and writes, and what a foreign journal does to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evidence_kit import GOOD
from plan_folder import PlanFolder

from core.errors import PlanError, RunFolderError, UserError
from core.manifests.hashing import HashCache
from core.plan.read import parse_plan
from core.plan.rows import NEXT_DRAW, all_rows
from core.plan.schema import Plan
from core.queue import execution, search
from core.queue.execution import PlanExecution
from core.queue.search import FAILED, Result, draw, drawn_by, journal_of, result_of
from core.runs.paths import RunsFolder
from core.scoring.evidence import Choice, Standing, Thresholds
from core.scoring.verdict import judge

optuna = pytest.importorskip("optuna")

HEAD = "[model]\nid='m'\n[data]\ntrain='t'\ndomain='d'\nheldout='h'\n[train]\nallow_high_learning_rate = true\n"
THEN = '[queue]\nthen = "search"\nmax_runs = 60\n[[experiment]]\nid = "a"\n'
SPACE = """[search]
sampler = "tpe"
seed = 5
train.learning_rate = { log_uniform = [1e-5, 1e-2] }
train.ema = { uniform = [0.0, 0.9] }
adapter.rank = { uniform = [4, 64] }
adapter.target_modules = [["q_proj"], ["q_proj", "v_proj"], ["fc1"]]
adapter.method = ["lora", "dora"]
"""


def plan_of(text: str = SPACE) -> Plan:
    return parse_plan(HEAD + THEN + text, "plan.toml")


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path / "runs", tmp_path / "state")


def asked(runs: RunsFolder, plan: Plan, results: Mapping[int, Result] | None = None) -> dict[str, Any]:
    """What is drawn next."""
    before = set(drawn_by(runs, plan))
    assert draw(runs, plan, results or {}, lambda values: True)
    [number] = set(drawn_by(runs, plan)) - before
    return dict(drawn_by(runs, plan)[number])


def gain_of(values: Mapping[str, Any]) -> Result:
    """Best near 1e-3, beyond which the guardrail breaks."""
    rate = values["train.learning_rate"]
    gain = 10.0 if rate > 1e-3 else 5.0 * rate / 1e-3
    return Result("complete", gain, 0.1 if rate <= 1e-3 else 2.0)


def trials(runs: RunsFolder, plan: Plan) -> list[Any]:
    """As Optuna's own reader of journals has them."""
    backend = optuna.storages.journal.JournalFileBackend(str(journal_of(runs, plan)))
    study = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend))
    found: list[Any] = study.trials
    return found


def test_draws_are_within_their_ranges_and_read_without_optuna(
    runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of()
    for _ in range(15):
        values = asked(runs, plan)
        assert 1e-5 <= values["train.learning_rate"] <= 1e-2
        assert float(f"{values['train.learning_rate']:.3g}") == values["train.learning_rate"]
        assert 4 <= values["adapter.rank"] <= 64 and isinstance(values["adapter.rank"], int)
        assert values["adapter.target_modules"] in (("q_proj",), ("q_proj", "v_proj"), ("fc1",))
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = drawn_by(runs, plan)
    assert list(found) == list(range(1, 16))
    rows = [row for row in all_rows(plan, found) if row.drawn]
    assert [row.key for row in rows] == [*(f"search#{n}" for n in range(1, 16)), NEXT_DRAW]
    assert rows[0].settings.train.learning_rate == found[1]["train.learning_rate"]
    assert rows[0].title == "Search by TPE"


def test_a_draw_is_a_function_of_seed_number_and_results(tmp_path: Path) -> None:
    plan, ways = plan_of(), []
    for name in ("one", "other"):
        folder = RunsFolder(tmp_path / name, tmp_path / f"{name}-state")
        drawn: list[dict[str, Any]] = []
        for number in range(1, 14):
            told = {n: gain_of(values) for n, values in enumerate(drawn, 1)}
            drawn.append(asked(folder, plan, told if name == "one" else {number - 1: told.get(number - 1, FAILED)}))
        ways.append(drawn)
    assert ways[0] == ways[1], "however often, and when, it was told of a result"
    elsewhere = RunsFolder(tmp_path / "third", tmp_path / "third-state")
    assert asked(elsewhere, plan_of(SPACE.replace("seed = 5", "seed = 6"))) != ways[0][0]


def test_it_finds_what_gains_within_the_guardrail_sooner_than_chance(tmp_path: Path) -> None:
    plan, kept = plan_of(), []
    folder = RunsFolder(tmp_path / "runs", tmp_path / "state")
    drawn: list[dict[str, Any]] = []
    for _ in range(40):
        drawn.append(asked(folder, plan, {n: gain_of(values) for n, values in enumerate(drawn, 1)}))
    for values in drawn[20:]:
        kept.append(2e-4 <= values["train.learning_rate"] <= 1e-3)
    assert sum(kept) >= 8, "chance has 23 % of them there"


def test_each_end_of_a_run_is_told_as_what_it_is(runs: RunsFolder) -> None:
    plan = plan_of()
    for _ in range(4):
        asked(runs, plan)
    results = {1: Result("complete", 3.0, 0.1), 2: Result("pruned", 1.5, 4.0, 300), 3: FAILED}
    asked(runs, plan, results)
    found = trials(runs, plan)
    states = optuna.trial.TrialState
    assert [trial.state for trial in found] == [
        states.COMPLETE,
        states.PRUNED,
        states.FAIL,
        states.RUNNING,
        states.RUNNING,
    ]
    assert found[0].value == 3.0 and found[0].constraints == {"guardrail": pytest.approx(0.1 - 0.2)}
    assert found[1].intermediate_values == {300: 1.5} and found[1].constraints == {"guardrail": pytest.approx(3.8)}


def test_a_run_is_worth_its_gain_and_rise_on_the_sets_that_nobody_is_judged_on() -> None:
    verdict = judge(GOOD, Thresholds())
    assert result_of(GOOD, verdict, "done") == Result("complete", pytest.approx(15.2), pytest.approx(0.1))
    chosen = Choice("step-000800", True, "why", (Standing("step-000900", 9.0, 0.0, 0.9, None),
                                                 Standing("step-000800", 4.5, -0.25, 0.9, None)))  # fmt: skip
    assert result_of(replace(GOOD, choice=chosen), verdict, "done") == Result("complete", 4.5, -0.25)
    none = replace(GOOD, choice=Choice(None, None, "nothing to choose from"))
    assert result_of(none, verdict, "done") == FAILED


def test_a_run_that_its_early_stop_ended_is_worth_its_last_interval() -> None:
    ended = replace(GOOD, failure="stopped", intervals=GOOD.intervals[:3], tuned_domain=None, tuned_heldout=None)
    verdict = judge(ended, Thresholds())
    assert result_of(ended, verdict, "stopped_early") == Result("pruned", pytest.approx(14.8), pytest.approx(0.2), 800)
    apart = [replace(i, selection=i.heldout, selection_heldout=i.domain) for i in ended.intervals]
    found = result_of(replace(ended, intervals=tuple(apart)), verdict, "stopped_early")
    assert found == Result("pruned", pytest.approx(-0.2), pytest.approx(-14.8), 800)
    assert result_of(replace(ended, intervals=GOOD.intervals[:1]), verdict, "stopped_early") == FAILED


@pytest.mark.parametrize("outcome", ["diverged", "out_of_memory", "crashed", "error", "stopped"])
def test_a_run_that_failed_says_nothing_of_its_settings(outcome: str) -> None:
    assert result_of(GOOD, judge(GOOD, Thresholds()), outcome) == FAILED


@pytest.mark.parametrize("doubt", ["contradiction", "unproven"])
def test_scores_that_are_not_believed_teach_nothing(doubt: str) -> None:
    doubted = replace(GOOD, **{doubt: "edited"})  # type: ignore[arg-type]
    for outcome in ("done", "stopped_early"):
        assert result_of(doubted, judge(doubted, Thresholds()), outcome) == FAILED


def test_what_repeats_a_row_leaves_a_gap_and_a_space_can_be_used_up(runs: RunsFolder) -> None:
    plan = plan_of('[search]\nsampler = "tpe"\nadapter.rank = [4, 8]\n')
    taken: list[Any] = []

    def is_new(values: Mapping[str, Any]) -> bool:
        return values not in taken

    for _ in range(2):
        assert draw(runs, plan, {}, is_new)
        taken = [dict(values) for values in drawn_by(runs, plan).values()]
    assert sorted(values["adapter.rank"] for values in taken) == [4, 8]
    assert not draw(runs, plan, {}, is_new)
    assert len(drawn_by(runs, plan)) == 2
    with_gap = [trial.number + 1 for trial in trials(runs, plan) if "drawn" in trial.user_attrs]
    assert list(drawn_by(runs, plan)) == with_gap


GRID = '[search]\nsampler = "tpe"\nadapter.rank = [4, 8, 16, 32]\ntrain.seed = { uniform = [1, 4] }\n'


def test_every_row_of_a_small_space_is_drawn_and_then_none(runs: RunsFolder) -> None:
    plan = plan_of(GRID)

    def is_new(values: Mapping[str, Any]) -> bool:
        return values not in drawn_by(runs, plan).values()

    for _ in range(16):
        assert draw(runs, plan, {n: Result("complete", 1.0, 0.0) for n in drawn_by(runs, plan)}, is_new)
    drawn = {(values["adapter.rank"], values["train.seed"]) for values in drawn_by(runs, plan).values()}
    assert drawn == {(rank, seed) for rank in (4, 8, 16, 32) for seed in (1, 2, 3, 4)}
    told = {n: Result("complete", 1.0, 0.0) for n in drawn_by(runs, plan)}
    assert not draw(runs, plan, told, is_new)
    count = len(trials(runs, plan))
    assert not draw(runs, plan, told, is_new) and len(trials(runs, plan)) == count, "asked again it writes nothing"


def test_a_draw_at_random_is_the_same_wherever_the_supervisor_was_killed_before_it(runs: RunsFolder) -> None:
    plan = plan_of()
    first = asked(runs, plan)
    journal = journal_of(runs, plan)
    before = journal.read_bytes()

    def is_new(values: Mapping[str, Any]) -> bool:
        # nearly all that the sampler may draw repeats something
        return values != first and values["adapter.rank"] == 7

    assert draw(runs, plan, {}, is_new)
    whole, data = drawn_by(runs, plan), journal.read_bytes()
    assert set(whole) == {1, 7} and whole[7]["adapter.rank"] == 7
    lines = data[len(before) :].splitlines(keepends=True)
    tells = [n for n, line in enumerate(lines) if json.loads(line)["op_code"] == 6]
    assert len(tells) == 5
    for n in tells:
        journal.write_bytes(before + b"".join(lines[: n + 1]))
        assert draw(runs, plan, {}, is_new)
        assert drawn_by(runs, plan) == whole


def test_a_full_journal_keeps_its_draws(runs: RunsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    asked(runs, plan)
    monkeypatch.setattr(search, "JOURNAL_BYTES", 2 * journal_of(runs, plan).stat().st_size)
    with pytest.raises(RunFolderError, match="has no room for a draw"):
        for _ in range(9):
            asked(runs, plan)
    assert journal_of(runs, plan).stat().st_size <= search.JOURNAL_BYTES and drawn_by(runs, plan)


def test_a_number_is_never_drawn_twice_wherever_the_supervisor_was_killed(runs: RunsFolder) -> None:
    plan = plan_of()
    whole = [asked(runs, plan) for _ in range(3)]
    journal = journal_of(runs, plan)
    lines = journal.read_bytes().splitlines(keepends=True)
    cuts = [b"".join(lines[:n]) + torn for n in range(len(lines) + 1) for torn in (b"", b'{"op_code": 4, "stu')]
    for data in cuts[:: max(1, len(cuts) // 24)]:
        journal.write_bytes(data)
        before = drawn_by(runs, plan)
        assert all(dict(values) == whole[number - 1] for number, values in before.items())
        asked(runs, plan)
        after = drawn_by(runs, plan)
        assert len(after) == len(before) + 1 and before.items() <= after.items()
        numbers = [trial.number for trial in trials(runs, plan)]
        assert numbers == sorted(set(numbers))


HOSTILE = {
    "no JSON": b"\x80\x04K\x01.\n",
    "no object": b"[1, 2]\n",
    "an unknown operation": b'{"op_code": 99, "worker_id": "x"}\n',
    "a trial of no study": b'{"op_code": 4, "worker_id": "x", "study_id": 7, "datetime_start": null}\n',
    "a state of nothing": b'{"op_code": 6, "worker_id": "x", "trial_id": 0, "state": 44, "values": [1]}\n',
    "a number that is none": b'{"op_code": 6, "worker_id": "x", "trial_id": 0, "state": 1, "values": [NaN]}\n',
    "a distribution of nothing": (
        b'{"op_code": 5, "worker_id": "x", "trial_id": 0, "param_name": "p", "param_value_internal": 1,'
        b' "distribution": "{\\"name\\": \\"os.system\\", \\"attributes\\": {}}"}\n'
    ),
    "nested too deep": b"[" * 100_000 + b"\n",
    "a line without end": b'{"op_code": 8, "user_attr": "' + b"x" * 3_000_000,
    "a text for an object": b'{"op_code": 8, "worker_id": "x", "trial_id": 0, "user_attr": "drawn"}\n',
    "a deleted study": b'{"op_code": 1, "worker_id": "x", "study_id": 0}\n',
}


FIRST = {
    "another study": b'{"op_code": 0, "worker_id": "x", "study_name": "other", "directions": [1]}\n',
    "a trial of no study": HOSTILE["a trial of no study"],
}


@pytest.mark.parametrize("what", FIRST)
def test_a_draw_that_nobody_would_read_is_none(what: str, runs: RunsFolder) -> None:
    plan = plan_of()
    journal = journal_of(runs, plan)
    journal.parent.mkdir(parents=True)
    journal.write_bytes(FIRST[what])
    with pytest.raises(RunFolderError, match="is no journal of this search"):
        draw(runs, plan, {}, lambda values: True)
    assert drawn_by(runs, plan) == {}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_journal_executes_nothing_and_crashes_nobody(what: str, runs: RunsFolder) -> None:
    plan = plan_of()
    first = asked(runs, plan)
    journal = journal_of(runs, plan)
    data = journal.read_bytes()
    journal.write_bytes(data + HOSTILE[what])
    found = drawn_by(runs, plan)
    assert found in ({1: first}, {})
    try:
        draw(runs, plan, {1: Result("complete", 1.0, 0.0)}, lambda values: True)
    except (RunFolderError, OSError) as error:
        assert str(journal) in str(error)
    assert all(search.within(plan.search, json.loads(json.dumps(v))) for v in drawn_by(runs, plan).values())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"train.learning_rate": 0.5},
        {"train.learning_rate": "1e-4"},
        {"adapter.rank": 4.5},
        {"adapter.rank": True},
        {"adapter.method": "olora"},
        {"train.steps": 10},
        {"adapter.target_modules": "q_proj"},
        None,
    ],
)
def test_values_beyond_the_plan_s_ranges_are_no_draw(values: Any, runs: RunsFolder) -> None:
    plan = plan_of()
    asked(runs, plan)
    journal = journal_of(runs, plan)
    lines = journal.read_text().splitlines()
    [place] = [n for n, line in enumerate(lines) if '"drawn"' in line]
    record = json.loads(lines[place])
    record["user_attr"]["drawn"] = None if values is None else record["user_attr"]["drawn"] | values
    lines[place] = json.dumps(record)
    journal.write_text("\n".join(lines) + "\n")
    assert drawn_by(runs, plan) == {}
    assert [row.key for row in all_rows(plan, drawn_by(runs, plan)) if row.drawn] == [NEXT_DRAW]


def test_a_link_is_not_written_through(runs: RunsFolder, tmp_path: Path) -> None:
    plan, target = plan_of(), tmp_path / "elsewhere"
    target.write_text("mine\n")
    journal = journal_of(runs, plan)
    journal.parent.mkdir(parents=True)
    journal.symlink_to(target)
    with pytest.raises(RunFolderError, match="nothing is written to it"):
        draw(runs, plan, {}, lambda values: True)
    assert target.read_text() == "mine\n" and drawn_by(runs, plan) == {}


def test_nothing_is_read_through_a_linked_folder(runs: RunsFolder, tmp_path: Path) -> None:
    plan = plan_of()
    first = asked(runs, plan)
    folder, elsewhere = journal_of(runs, plan).parent, tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert drawn_by(runs, plan) == {}
    with pytest.raises(RunFolderError, match="a link"):
        draw(runs, plan, {}, lambda values: True)
    linked = RunsFolder(tmp_path / "linked", runs.state)
    folder.unlink()
    elsewhere.rename(folder)
    linked.root.symlink_to(runs.root)
    assert drawn_by(linked, plan) == {1: first}, "the runs folder itself may be a link"


def test_without_optuna_one_sentence_names_the_extra(runs: RunsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    plan = plan_of()
    assert search.lacking(plan) == [search.MISSING] and "lora-tui[search]" in search.MISSING
    assert search.lacking(plan_of(SPACE.replace('"tpe"', '"random"'))) == []
    with pytest.raises(UserError, match=r"install lora-tui\[search\]"):
        draw(runs, plan, {}, lambda values: True)


def test_another_guardrail_or_range_is_another_search(runs: RunsFolder) -> None:
    plan = plan_of()
    others = [
        plan_of(SPACE.replace("[4, 64]", "[4, 32]")),
        plan_of(SPACE.replace("seed = 5", "seed = 6")),
        replace(plan, gate=replace(plan.gate, heldout_regression=0.5)),
        replace(plan, defaults=replace(plan.defaults, train=replace(plan.defaults.train, steps=7))),
    ]
    assert len({journal_of(runs, one) for one in (plan, *others)}) == 5
    assert journal_of(runs, replace(plan, path="/moved/plan.toml")) == journal_of(runs, plan)


def test_another_word_for_the_sampler_is_refused() -> None:
    with pytest.raises(PlanError, match=r'search\.sampler: expected "random" or "tpe", found the string "grid"'):
        plan_of(SPACE.replace('"tpe"', '"grid"'))


# Through the supervisor

ONE = '[[experiment]]\nid = "a"\nadapter.rank = 4\n'
RANKS = '[search]\nsampler = "tpe"\nadapter.rank = [8, 16, 32, 64]\n'


def test_the_queue_draws_one_row_after_the_other_until_one_is_accepted(folder: PlanFolder) -> None:
    folder.write(RANKS + ONE, queue='then = "search"')
    folder.script(**{"a": ["poor"], "search": ["stopped_early"], "search@rank64": ["good"], "search@rank16": ["oom"]})
    finish = folder.work()
    drawn = folder.starts()[1:]
    assert folder.starts()[0] == "a" and drawn and finish["reason"] == f"{drawn[-1]} was accepted"
    assert "drawn by what the runs before it gave" in folder.decisions("start")[1].reason
    plan = parse_plan(folder.plan.read_text(), str(folder.plan))
    states = {f"search#{trial.number + 1}": trial.state.name for trial in trials(folder.runs, plan)}
    ranks = {key: run.settings.adapter.rank for key, run in rows_of(folder).items() if key in drawn}
    ended = {8: "PRUNED", 32: "PRUNED", 16: "FAIL", 64: "RUNNING"}
    assert {key: states[key] for key in drawn} == {key: ended[rank] for key, rank in ranks.items()}
    # Again, and from another face: the same draws, and nothing is run twice.
    again = folder.work()
    assert folder.starts() == ["a", *drawn] and again["reason"] == finish["reason"]


def rows_of(folder: PlanFolder) -> dict[str, Any]:
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    return {row.key: row for row in execution.shown_rows()}


def test_a_space_that_is_used_up_ends_the_plan(folder: PlanFolder) -> None:
    folder.write(RANKS.replace("8, 16, 32, 64", "8, 16") + ONE, queue='then = "search"')
    folder.script(a=["poor"], search=["poor"])
    finish = folder.work()
    assert len(folder.starts()) == 3 and finish["complete"]
    assert "[search] has no other rows" in finish["reason"]
    [skip] = folder.decisions("skip")
    assert (skip.row, skip.reason) == (NEXT_DRAW, "the search drew nothing that was not there")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ('{"op_code": 99}\n', "is no journal of this search"),
        (FIRST["another study"].decode(), "is no journal of this search (it holds another study)"),
        ("x" * 2000, "has no room for a draw"),
        (None, "nothing is written to it"),
        ("a file", "no folder"),
    ],
)
def test_a_foreign_journal_ends_the_search_and_not_the_supervisor(
    what: str | None, says: str, folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(RANKS + ONE, queue='then = "search"')
    folder.script(a=["poor"])
    monkeypatch.setattr(search, "JOURNAL_BYTES", 1000)
    plan = parse_plan(folder.plan.read_text(), str(folder.plan))
    journal = journal_of(folder.runs, plan)
    journal.parent.parent.mkdir(parents=True, exist_ok=True)
    if what == "a file":
        journal.parent.write_text("")
    else:
        journal.parent.mkdir()
        journal.mkdir() if what is None else journal.write_text(what)
    finish = folder.work()
    assert folder.starts() == ["a"] and finish["complete"]
    [skip] = folder.decisions("skip")
    assert (skip.row, skip.status) == (NEXT_DRAW, "failed")
    assert says in skip.reason and str(journal.parent) in skip.reason


def test_a_draw_that_gives_no_row_is_the_last(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(RANKS + ONE, queue='then = "search"')
    folder.script(a=["poor"])
    answers = iter((True, True))  # as though it had drawn
    monkeypatch.setattr(execution, "draw", lambda *asked: next(answers))
    finish = folder.work()
    assert finish["complete"] and next(answers)
    [skip] = folder.decisions("skip")
    assert (skip.row, skip.status) == (NEXT_DRAW, "skipped")


SPACES = {
    "train.learning_rate": "{ log_uniform = [1e-5, 1e-3] }",
    "train.kl": "{ uniform = [0.0, 2.0] }",
    "train.decay_to_base": "{ uniform = [0.0, 50.0] }",
    "train.ema": "[0.0, 0.9, 0.99]",
    "train.interpolate": "[[0.3], [0.2, 0.4, 0.6]]",
    "train.interpolate_last": "{ uniform = [1, 5] }",
    "train.average": "[0, 2, 4]",
    "train.replay_share": "{ uniform = [0.2, 0.95] }",
    "train.replay_share_by": '["seconds", "tokens"]',
    "train.schedule": '["linear", "constant"]',
    "train.augment.speed": "{ uniform = [0.0, 0.1] }",
    "adapter.sites": '["encoder", "decoder", "both"]',
    "adapter.rank": "{ log_uniform = [4, 64] }",
    "adapter.target_modules": '[["attention"], ["attention", "mlp"]]',
    "adapter.dropout": "{ uniform = [0.0, 0.2] }",
    "data.max_seconds": "{ uniform = [5.0, 30.0] }",
}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_every_kind_of_key_may_be_drawn(sampler: str, runs: RunsFolder) -> None:
    space = "".join(f"{key} = {written}\n" for key, written in SPACES.items())
    head = HEAD.replace("train='t'\n", "train='t'\nreplay='r'\nselection_share = 0.1\n")
    plan = parse_plan(f'{head}{THEN}[search]\nsampler = "{sampler}"\n{space}', "plan.toml")
    if sampler == "tpe":
        for _ in range(5):
            asked(runs, plan)
    rows = [row for row in all_rows(plan, drawn_by(runs, plan)) if row.drawn and row.key != NEXT_DRAW][:5]
    assert len(rows) == 5
    assert len({row.settings.train.decay_to_base for row in rows}) == 5
    assert {row.settings.train.interpolate for row in rows} <= {(0.3,), (0.2, 0.4, 0.6)}
    assert all(isinstance(row.settings.train.interpolate_last, int) for row in rows)
    assert all(0 <= row.settings.train.augment.speed <= 0.1 for row in rows)
