"""Problems of a plan: each kind, with the exact line, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import PlanError
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.schema import DEFAULT_EPOCHS
from core.plan.texts import slurm_time

ROOT = Path(__file__).resolve().parents[3]

HEAD = """\
[model]
id = "m"
[data]
train = "t.jsonl"
replay = "r.jsonl"
domain = "d.jsonl"
heldout = "h.jsonl"
"""
TAIL = """\
[[experiment]]
id = "2.1"
"""


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(PlanError) as caught:
        parse_plan(text, "plan.toml", overrides)
    return str(caught.value).split("\n")


def only_problem(middle: str, *overrides: str, tail: str = TAIL) -> str:
    """The one problem of a plan with `middle` from line 8 on."""
    found = problems(HEAD + middle + tail, *overrides)
    assert len(found) == 1, found
    return found[0]


def test_the_shipped_plan_is_clean_and_has_the_phases() -> None:
    path = ROOT / "experiments.toml"
    plan = parse_plan(path.read_text(encoding="utf-8"), str(path))
    rows = expand(plan)
    assert plan.warnings == ()
    assert [experiment.id for experiment in plan.experiments] == ["2.1", "2.1-lora", "2.2", "3.1"]
    assert [row.settings.adapter.method for row in rows[:2]] == ["dora", "lora"]
    assert [row.settings.train.learning_rate for row in rows[-3:]] == [5e-5, 1e-4, 1.5e-4]
    assert all(row.settings.train.steps == 1000 and row.settings.train.epochs == 3 for row in rows)
    assert [entry.id for entry in plan.history] == ["exp_1.1", "exp_2.1b"]
    assert all(entry.domain_wer is None and entry.heldout_wer is None for entry in plan.history)


@pytest.mark.parametrize(
    ("middle", "tail", "overrides", "where"),
    [
        ("[train]\nsteps = 9000000\neval_every = 1\n", TAIL, (), "plan.toml:10: train.eval_every: 9000000 steps with"),
        ("[train]\nsteps = 9000000\n", TAIL, (), "plan.toml:9: train.eval_every: 9000000 steps with eval_every = 100 "),
        ("", TAIL + "train.steps = 10001\ntrain.eval_every = 1\n", (), "plan.toml:11: train.eval_every: 10001 steps"),
        ("", TAIL, ("train.steps=9000000",), "--set train.steps=9000000: train.eval_every: 9000000 steps"),
    ],
)
def test_a_run_has_not_too_many_intervals(middle: str, tail: str, overrides: tuple[str, ...], where: str) -> None:
    found = only_problem(middle, *overrides, tail=tail)
    assert found.startswith(where) and "at most 10000: raise eval_every" in found
    parse_plan(HEAD + TAIL, "plan.toml", ["train.steps=10000", "train.eval_every=1"])


def test_a_minimal_plan_has_the_schema_defaults() -> None:
    plan = parse_plan(HEAD + TAIL, "plan.toml")
    assert plan.defaults.train.epochs == DEFAULT_EPOCHS
    assert plan.defaults.train.batch_seconds is None
    assert plan.gate.domain_gain == 1.0
    assert plan.warnings == ()


@pytest.mark.parametrize(
    ("plan", "overrides", "chosen"),
    [
        (HEAD + TAIL, (), False),
        (f'{HEAD}normaliser = "basic"\n{TAIL}', (), True),
        (HEAD + TAIL, ("data.normaliser=digits",), True),
        (f'{HEAD}{TAIL}data.normaliser = "digits"\n', (), True),
        (f'{HEAD}{TAIL}[[experiment]]\nid = "3"\ndata.normaliser = "digits"\n', (), False),
        (f'{HEAD}{TAIL}sweep."data.normaliser" = ["basic", "digits"]\n', (), True),
    ],
)
def test_a_normaliser_is_chosen_where_the_plan_names_it(plan: str, overrides: tuple[str, ...], chosen: bool) -> None:
    assert parse_plan(plan, "plan.toml", overrides).gate.normaliser_chosen is chosen


def test_what_is_derived_is_no_key() -> None:
    assert "gate.normaliser_chosen: unknown key" in only_problem("[gate]\nnormaliser_chosen = true\n")


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        (
            "[train]\nlearning_rat = 1\n",
            "plan.toml:9: train.learning_rat: unknown key; did you mean learning_rate?",
        ),
        ("[train]\nrank = 1\n", "plan.toml:9: train.rank: unknown key; did you mean adapter.rank?"),
        ("[adapter]\n'a b' = 1\n", 'plan.toml:9: adapter."a b": unknown key; [adapter] has method, rank'),
        ("[trian]\nsteps = 1\n", "plan.toml:8: trian: unknown key; did you mean [train]?"),
        ("[experiments]\n", "plan.toml:8: experiments: unknown key; did you mean [[experiment]]?"),
        ("[zzz]\n", "plan.toml:8: zzz: unknown key; a plan has [model], [data]"),
        ("[train]\nsteps = 'x'\n", 'plan.toml:9: train.steps: expected a whole number, found the string "x"'),
        (
            "[train]\nsteps = 60.0\n",
            "plan.toml:9: train.steps: expected a whole number, found the number 60.0",
        ),
        (
            "[train]\nsteps = true\n",
            "plan.toml:9: train.steps: expected a whole number, found the boolean true",
        ),
        (
            "[train]\nclip = true\n",
            "plan.toml:9: train.clip: expected a finite number, found the boolean true",
        ),
        ("[train]\nclip = nan\n", "plan.toml:9: train.clip: expected a finite number, found the number nan"),
        (
            "[train]\nclip = -inf\n",
            "plan.toml:9: train.clip: expected a finite number, found the number -inf",
        ),
        ("[train]\nclip = 2024-01-01\n", "train.clip: expected a finite number, found a date or time"),
        ("[train]\nallow_high_learning_rate = 1\n", "expected true or false, found the integer 1"),
        ("[train]\nsteps = 0\n", "plan.toml:9: train.steps: 0 is too small: must be at least 1 steps"),
        (
            "[train]\nsteps = 99999999999999999999999\n",
            "plan.toml:9: train.steps: 99999999999999999999999 is too large: must be at most 10000000 steps",
        ),
        (f"[train]\nsteps = 0x{'f' * 5000}\n", "a number of more than 24 digits is too large"),
        (f"[train]\nprecision = 0x{'f' * 5000}\n", "plan.toml:9: train.precision: "),
        ("[gate]\nconfidence = 1.0\n", "plan.toml:9: gate.confidence: 1 is too large: must be below 1"),
        ("[gate]\nconfidence = 0.5\n", "plan.toml:9: gate.confidence: 0.5 is too small: must be above 0.5"),
        ("[gate]\nconfidence = 'poit'\n", 'plan.toml:9: gate.confidence: "poit" is not one of "point"'),
        ("[train]\nclip = 0.0\n", "plan.toml:9: train.clip: 0 is too small: must be above 0"),
        ("[train]\nwarmup = 0.95\n", "plan.toml:9: train.warmup: 0.95 is too large: must be at most 0.9"),
        ("[adapter]\nmethod = 'dorra'\n", '"rslora", "pissa", "olora"; did you mean "dora"?'),
        ("[adapter]\nmethod = 'pissa_niter_4'\n", '"pissa_niter_4" is not one of'),
        (
            "[adapter]\ntarget_modules = 4\n",
            "plan.toml:9: adapter.target_modules: expected an array of strings",
        ),
        ("[adapter]\nsites = 'decodr'\n", 'did you mean "decoder"?'),
        ("[adapter]\nlayers = '6:11'\n", 'adapter.layers: "6:11" is no range of layers: write "6-11"'),
        ("[adapter]\nlayers = 6\n", 'write "6"'),
        ("[adapter]\nlayers = '11-6'\n", 'ends before it begins: write "6-11"'),
        ("[adapter]\nrank_pattern = { q_proj = 0 }\n", "q_proj: rank 0 must be from 1 to 4096"),
        ("[adapter]\nrank_pattern = { q_proj = 'x' }\n", "expected a table of whole numbers, as in { q_proj = 8 }"),
        ("[adapter]\nrank_pattern = ['q_proj']\n", '"q_proj" is no rank of a layer: write { q_proj = 8 }'),
        ("[adapter]\nrank_pattern = ['fc1=8', 'fc1=4']\n", "fc1 has ranks 4 and 8: give it one"),
        ("[train]\nbase_precision = 'bf16'\nprecision = 'fp32'\n", '"bf16" goes with steps in bf16'),
        ("[adapter]\nlora_plus = 0.5\n", "adapter.lora_plus: 0.5 is too small: must be at least 1"),
        ("[adapter]\nlora_plus = 16\n", "0.0001 times adapter.lora_plus = 16 is 0.0002 or more"),
        (
            "[adapter]\ntarget_modules = []\n",
            "plan.toml:9: adapter.target_modules: expected an array of strings",
        ),
        (
            "[adapter]\ntarget_modules = ['a', 1]\n",
            "plan.toml:9: adapter.target_modules: expected an array of strings",
        ),
        (
            "[adapter]\n[adapter.rank]\nx = 1\n",
            "plan.toml:9: adapter.rank: expected a whole number, found a table",
        ),
        ("adapter = 3\n", None),
        (
            "[train]\nepochs = 3\nbatch_seconds = 4\n",
            "plan.toml:10: train.batch_seconds: give epochs or batch_seconds",
        ),
        ("[train]\nlearning_rate = 2e-4\n", "plan.toml:9: train.learning_rate: 0.0002 is 0.0002 or more"),
    ],
)
def test_a_wrong_value_or_key(middle: str, expected: str | None) -> None:
    if expected is None:  # belongs to [data] there, as TOML has it
        assert only_problem(middle) == "plan.toml:8: data.adapter: unknown key; " + only_problem(middle).split("; ")[1]
        return
    assert expected in only_problem(middle)


@pytest.mark.parametrize(
    ("middle", "what"),
    [
        ("[queue.slurm]\ntime = '8 hours'\n", 'queue.slurm.time: "8 hours" is no time limit of Slurm'),
        ("[queue.slurm]\ntime = '0'\n", "is no time at all"),
        ("[queue.slurm]\noptions = ['--constraint']\npartitio = 'gpu'\n", "did you mean slurm.partition?"),
        ("[queue.slurm]\noptions = ['-C a100']\n", "is no option of sbatch"),
        ("[queue.slurm]\noptions = ['--comment=mine']\n", "--comment belongs to the queue"),
    ],
)
def test_what_slurm_would_not_take_or_the_queue_needs_for_itself(middle: str, what: str) -> None:
    assert what in only_problem(middle)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("90:30", 5430), ("8:00:00", 28800), ("2-0", 172800), ("2-12:30", 217800), ("1-0:0:5", 86405)],
)
def test_time_limits_as_slurm_writes_them(text: str, seconds: int) -> None:
    assert slurm_time(text) == seconds


def test_leakage_is_accepted_with_a_reason_only() -> None:
    reason = "[gate]\naccept_leakage = 'the same prompts are read in production'\n"
    plan = parse_plan(HEAD + reason + "[[experiment]]\nid = 'a'\n", "plan.toml")
    assert plan.gate.accept_leakage == "the same prompts are read in production"
    assert "an empty one" in only_problem("[gate]\naccept_leakage = ''\n")
    assert "gives no reason" in only_problem("[gate]\naccept_leakage = ' - '\n")
    assert "expected a string" in only_problem("[gate]\naccept_leakage = true\n")


def test_speakers_are_unknown_with_a_reason_only() -> None:
    reason = "[gate]\nspeakers = 'unknown: each clip is another caller'\n"
    plan = parse_plan(HEAD + reason + TAIL, "plan.toml")
    assert plan.gate.speakers == "unknown: each clip is another caller"
    for wrong in ("unknown", "unknown: -", "many", "each clip is another caller"):
        problem = only_problem(f"[gate]\nspeakers = '{wrong}'\n")
        assert problem.startswith("plan.toml:9: gate.speakers") and '"unknown:" with a reason' in problem


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("heldout = 'd.jsonl'\n", "plan.toml:7: data.heldout: the same set as data.domain"),
        ("heldout = './x/../d.jsonl'\n", "plan.toml:7: data.heldout"),
        ("heldout = 'h.jsonl'\nselection = 'd.jsonl'\n", "plan.toml:8: data.selection: the same set as data.domain"),
        ("heldout = 'h.jsonl'\nselection = 'h.jsonl'\n", "plan.toml:8: data.selection: the same set as data.heldout"),
    ],
)
def test_the_same_set_twice_is_refused(data: str, place: str) -> None:
    head = HEAD.replace('heldout = "h.jsonl"\n', data)
    [problem] = problems(head + TAIL)
    assert problem.startswith(place)


@pytest.mark.parametrize(
    ("data", "place", "what"),
    [
        ("selection = 's.jsonl'\nselection_share = 0.1\n", "8: data.selection: is given", "leave out"),
        ("selection_heldout = 's.jsonl'\n", "8: data.selection_heldout: goes with data.selection", "give both"),
        ("selection_share = 0.7\n", "8: data.selection_share: ", "0.5"),
    ],
)
def test_selection_sets_go_together(data: str, place: str, what: str) -> None:
    head = HEAD.replace('heldout = "h.jsonl"\n', 'heldout = "h.jsonl"\n' + data)
    [problem] = problems(head + TAIL)
    assert problem.startswith(f"plan.toml:{place}")
    assert what in problem


def test_a_share_for_selection_takes_replay_speech() -> None:
    head = HEAD.replace('replay = "r.jsonl"\n', "selection_share = 0.1\n")
    [problem] = problems(head + TAIL)
    assert problem.startswith("plan.toml:5: data.selection_share: ")
    assert "give that, or name both selection sets" in problem


def test_the_same_set_twice_in_one_experiment_is_refused_there() -> None:
    [problem] = problems(HEAD + TAIL + "data.heldout = 'd.jsonl'\n")
    assert problem.startswith("plan.toml:10: data.heldout: the same set as data.domain")
    assert "other speech" in problem


def test_the_queues_policies_are_read_and_checked() -> None:
    text = "[queue]\nnotify = ['mail', '-x', '1', '-y', '1']\non_accept = 'stop'\npause_after = 0\n"
    queue = parse_plan(HEAD + text + "[gate]\nearly_stop = 2\n" + "[[experiment]]\nid = 'a'\n", "plan.toml").queue
    assert queue.notify == ("mail", "-x", "1", "-y", "1") and (queue.on_accept, queue.pause_after) == ("stop", 0)
    assert "an array of strings" in only_problem("[queue]\nnotify = 'mail'\n")
    assert "finish" in only_problem("[queue]\non_accept = 'stopp'\n")
    assert "fail" in only_problem("[queue]\non_out_of_memory = 'double'\n")
    assert "at least 1" in only_problem("[gate]\nearly_stop = 2\nearly_stop_intervals = 0\n")


def test_a_plain_wrong_choice_is_not_called_unavailable() -> None:
    assert "not available" not in only_problem("[queue]\nexecutor = 'slrum'\n")


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("", "plan.toml: the plan has no [[experiment]]: add one with an id"),
        (
            "[experiment]\nid = 'a'\n",
            "plan.toml:8: experiment: expected an array of tables, found a table: write [[exp",
        ),
        ("[[experiment]]\ntitle = 'x'\n", "plan.toml:8: [[experiment]]: every entry needs an id"),
        (
            "[[experiment]]\nid = 2.1\n",
            'plan.toml:9: id: expected a string, found the number 2.1; write id = "2.1"',
        ),
        ("[[experiment]]\nid = ''\n", "plan.toml:9: id: is empty"),
        (
            "[[experiment]]\nid = 'a/b'\n",
            "plan.toml:9: id: 'a/b' must be at most 64 letters, digits and . _ -",
        ),
        ("[[experiment]]\nid = '..'\n", "plan.toml:9: id: '..' must be"),
        (
            "[[experiment]]\nid = 'a'\n[[experiment]]\nid = 'a'\n",
            "plan.toml:11: id: 'a' is taken already, in line 8",
        ),
        (
            "[[experiment]]\nid = 'a'\nrank = 3\n",
            "plan.toml:10: rank: unknown key; did you mean adapter.rank?",
        ),
        ("[[experiment]]\nid = 'a'\ntitel = 'x'\n", "plan.toml:10: titel: unknown key; did you mean title?"),
        (
            "[[experiment]]\nid = 'a'\ngate.domain_gain = 1\n",
            "plan.toml:10: gate: unknown key; an experiment may overr",
        ),
        ("[[experiment]]\nid = 'a'\nafter = 'b'\n", "plan.toml:10: after: there is no experiment 'b'"),
        (
            "[[experiment]]\nid = 'a'\nafter = 3\n",
            "plan.toml:10: after: expected an experiment's id or an array",
        ),
        (
            "[[experiment]]\nid = 'a'\nadapter_from = ['aa']\n",
            "plan.toml:10: adapter_from: there is no experiment 'aa'; d",
        ),
        ("[[experiment]]\nid = 'a'\nafter = 'a'\n", "plan.toml:8: a: waits for itself: a → a"),
        (
            "[[experiment]]\nid = 'a'\nafter = 'b'\n[[experiment]]\nid = 'b'\nwhen = 'c:stable'\n"
            "[[experiment]]\nid = 'c'\nadapter_from = 'a'\n",
            "plan.toml:8: a: waits for itself: a → b → c → a",
        ),
        (
            "[[experiment]]\nid = 'a'\nwhen = 'stable'\n",
            "plan.toml:10: when: at character 1: `after` names no experiment",
        ),
        ("[[experiment]]\nid = 'a'\nwhen = 'b:stable'\n", "plan.toml:10: when: there is no experiment 'b'"),
        ("[[experiment]]\nid = 'a'\nsweep = 3\n", "plan.toml:10: sweep: expected a table of keys and arrays"),
        (
            "[[experiment]]\nid = 'a'\nsweep.train.steps = 3\n",
            "plan.toml:10: sweep.train.steps: expected an array of val",
        ),
        (
            "[[experiment]]\nid = 'a'\nsweep.train.steps = []\n",
            "plan.toml:10: sweep.train.steps: expected an array of va",
        ),
        (
            "[[experiment]]\nid = 'a'\nsweep.gate.x = [1]\n",
            "plan.toml:10: sweep gate.x: gate cannot be swept over",
        ),
        (
            "[[experiment]]\nid = 'a'\nsweep.steps = [1]\n",
            "plan.toml:10: sweep steps: unknown key; a sweep has keys like",
        ),
        (
            "[[experiment]]\nid = 'a'\nsweep.train.stepz = [1]\n",
            "plan.toml:10: sweep.train.stepz[1]: unknown key; did yo",
        ),
        (
            "[[experiment]]\nid = 'a'\nsweep.train.steps = [500,\n'x']\n",
            "plan.toml:11: sweep.train.steps[2]: expected a",
        ),
        (
            "[[experiment]]\nid = 'a'\nsweep.train.clip = [1, 1.0]\n",
            "plan.toml:10: sweep train.clip: holds a value twice",
        ),
        (
            "[[experiment]]\nid = 'a'\nsweep.train.seed = [1, 2]\ntrain.seed = 3\n",
            "plan.toml:11: train.seed: is swept over in the same experiment",
        ),
        (
            "[[experiment]]\nid = 'a'\nadapter_from = 'b'\nadapter.target_modules = ['x']\n[[experiment]]\nid = 'b'\n",
            "plan.toml:10: adapter_from: gives adapter.target_modules, which the experiment also sets",
        ),
        (
            "[[experiment]]\nid = 'a'\n[experiment.train]\nepochs = 1\nbatch_seconds = 2.0\n",
            "give epochs or batch_seconds, not both",
        ),
        (
            "[[experiment]]\nid = 'a'\nsweep.'train.learning_rate' = [\n1e-4,\n3e-4]\n",
            "plan.toml:10: train.learning_rate: 0.0003 is 0.0002 or more",
        ),
        (
            "[[experiment]]\nid = 'a'\n[[history]]\nid = 'h'\ndomain_wer = 'x'\n",
            "plan.toml:12: domain_wer: expected a wor",
        ),
        ("[[experiment]]\nid = 'a'\n[[history]]\nid = 'h'\nwer = 3\n", "plan.toml:12: wer: unknown key; "),
        ("[[experiment]]\nid = 'a'\n[gate]\nunit = 'letter'\n", "plan.toml:11: gate.unit: "),
        (
            "[gate]\nunit = 'character'\n[[experiment]]\nid = 'a'\n[[history]]\nid = 'h'\ndomain_wer = 3\n",
            "plan.toml:14: domain_wer: unknown key; did you mean domain_cer?",
        ),
        (
            "[gate]\nunit = 'mixed'\n[[experiment]]\nid = 'a'\n[[history]]\nid = 'h'\nheldout_mer = 'x'\n",
            "plan.toml:14: heldout_mer: expected a mixed error rate in percent",
        ),
        (
            "[[experiment]]\nid = 'a'\n[[history]]\ntitle = 'h'\n",
            "plan.toml:10: [[history]]: every entry needs an id",
        ),
    ],
)
def test_a_wrong_experiment(tail: str, expected: str) -> None:
    assert expected in only_problem("", tail=tail)


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        "[data]\ntrain = 't'\n[train]\nsteps = 0\nlearning_rat = 1\n[[experiment]]\nid = 'a'\nafter = 'b'\n"
    )
    assert found == [
        "plan.toml: model.id: is missing: give a folder in hub format (relative to the plan) or a hub id",
        "plan.toml:1: data.domain: is missing: give manifest of the domain evaluation set",
        "plan.toml:1: data.heldout: is missing: give manifest of ordinary speech that must not get worse",
        "plan.toml:4: train.steps: 0 is too small: must be at least 1 steps",
        "plan.toml:5: train.learning_rat: unknown key; did you mean learning_rate?",
        "plan.toml:8: after: there is no experiment 'b'; experiments are a",
    ]


def test_an_integer_is_good_where_a_float_is_meant() -> None:
    plan = parse_plan(HEAD + "[train]\nepochs = 3\nclip = 1\n" + TAIL, "plan.toml")
    assert plan.defaults.train.clip == 1.0
    assert isinstance(plan.defaults.train.clip, float)


def test_a_number_beyond_floats_is_refused() -> None:
    assert "expected a finite number" in only_problem(f"[train]\nclip = {10**400}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[model]\nid = x\n", "plan.toml:2: not valid TOML: invalid value (column 6)"),
        ("a = 1\na = 2\n", "plan.toml:2: not valid TOML: cannot overwrite a value"),
        ("[model]\nid = '''x\n\n", "plan.toml:2: not valid TOML:"),
        ("a = " + "[" * 5000, "plan.toml"),
    ],
)
def test_broken_toml_is_reported_with_its_line(text: str, expected: str) -> None:
    assert problems(text)[0].startswith(expected)


def test_a_byte_order_mark_is_no_problem() -> None:
    assert parse_plan("\ufeff" + HEAD + TAIL, "plan.toml").defaults.model.id == "m"


def test_a_high_learning_rate_can_be_allowed_by_default_or_by_the_experiment() -> None:
    allowed = "train.learning_rate = 5e-4\ntrain.allow_high_learning_rate = true\n"
    plan = parse_plan(HEAD + TAIL + allowed, "plan.toml")
    assert plan.experiments[0].overrides["train.learning_rate"] == 5e-4


def test_a_high_default_that_no_row_uses_is_no_problem() -> None:
    parse_plan(HEAD + "[train]\nlearning_rate = 1e-3\n" + TAIL + "train.learning_rate = 1e-4\n", "plan.toml")


def test_a_problem_in_the_defaults_is_told_once_however_many_rows_share_it() -> None:
    assert "plan.toml:9:" in only_problem("[train]\nlearning_rate = 1e-3\n", tail=TAIL + "[[experiment]]\nid = 'b'\n")


def test_replay_share_without_replay_speech() -> None:
    head = HEAD.replace('replay = "r.jsonl"\n', "")
    plan = parse_plan(head + TAIL, "plan.toml")
    assert expand(plan)[0].settings.train.replay_share == 0.0, "the default share is dropped silently"
    found = problems(head + "[train]\nreplay_share = 0.3\n" + TAIL)
    assert found == [
        "plan.toml:8: train.replay_share: there is no replay speech to take: "
        "give data.replay, or set train.replay_share = 0"
    ]
    parse_plan(head + "[train]\nreplay_share = 0\n" + TAIL, "plan.toml")
    with_replay = parse_plan(head + TAIL + "data.replay = 'r'\n", "plan.toml")
    assert expand(with_replay)[0].settings.train.replay_share == 0.5


@given(st.text(alphabet='[]{}=.,"#\n abtrainstepsid0123456789-', max_size=120))
@settings(max_examples=300)
def test_any_text_is_a_plan_or_a_plan_error(text: str) -> None:
    with pytest.raises(PlanError):
        parse_plan(text, "plan.toml")


@given(
    st.sampled_from(
        ["model", "data", "train.steps", "adapter.rank", "experiment", "history", "gate.confidence", "queue"]
    ),
    st.sampled_from(
        ["1", "[1]", "[[]]", "{x = {y = 1}}", "[{}]", "-0.0", "[{id = [1]}]", "''",
         "[{id = 'a', sweep = {train = {steps = {a = 1}}}}]"]
    ),
)  # fmt: skip
def test_values_of_any_shape_are_a_plan_or_a_plan_error(key: str, value: str) -> None:
    with pytest.raises(PlanError):
        parse_plan(f"{key} = {value}\n", "plan.toml")
