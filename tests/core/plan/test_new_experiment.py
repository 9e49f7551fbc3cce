from __future__ import annotations

from pathlib import Path

import pytest
import tomli

from core.errors import PlanError
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.template import entry_of, experiment_lines, form_of, with_experiment

SHIPPED = (Path(__file__).parents[3] / "experiments.toml").read_text()


def test_the_shipped_plan_keeps_every_byte_and_gains_one_experiment() -> None:
    plan = parse_plan(SHIPPED, "experiments.toml")
    row = next(row for row in expand(plan) if row.key == "3.1#3")
    form = form_of(plan, row) | {"title": 'a "quoted" \\ title', "adapter.rank": "32", "train.schedule": "constant"}
    entry = entry_of(plan, form)
    text = with_experiment(SHIPPED, entry)

    assert [line for line in text.splitlines() if line not in SHIPPED.splitlines()] == [
        'id = "3.1-2"',
        'title = "a \\"quoted\\" \\\\ title"',
        "train.learning_rate = 0.00015",
        'train.schedule = "constant"',
        "adapter.rank = 32",
    ]
    # Before the comment that belongs to the earlier results.
    assert text.index('id = "3.1-2"') < text.index("# Earlier results made elsewhere") < text.index("[[history]]")
    found = parse_plan(text, "experiments.toml").experiments[-1]
    assert found.after == ("2.1", "2.2") and found.adapter_from == ("2.1", "2.2") and not found.sweep
    assert found.overrides == {"train.learning_rate": 1.5e-4, "train.schedule": "constant", "adapter.rank": 32}


def test_only_what_differs_from_the_defaults_is_written() -> None:
    plan = parse_plan(SHIPPED, "experiments.toml")
    row = expand(plan)[0]
    assert entry_of(plan, form_of(plan, row)) == {"id": "2.1-2", "title": "DoRA stability run"}
    lora = next(row for row in expand(plan) if row.key == "2.1-lora")
    assert entry_of(plan, form_of(plan, lora))["adapter"] == {"method": "lora"}
    modules = form_of(plan, row) | {"adapter.target_modules": "q_proj, v_proj", "train.epochs": ""}
    assert entry_of(plan, modules)["adapter"] == {"target_modules": ["q_proj", "v_proj"]}


@pytest.mark.parametrize(
    ("train", "experiment", "own"),
    [
        ("", "", {}),  # epochs and the share of replay that is absent follow from other keys
        ("epochs = 2", "", {}),
        ("batch_seconds = 60.0", "", {}),
        ("", "train.batch_seconds = 60.0", {"train.batch_seconds": 60.0}),
        ("batch_seconds = 60.0", "train.epochs = 2", {"train.epochs": 2}),
        ("", "train.epochs = 3", {}),
    ],
)
def test_an_untouched_copy_says_only_what_the_original_says(train: str, experiment: str, own: dict[str, float]) -> None:
    data = '[data]\ntrain = "t.jsonl"\ndomain = "d.jsonl"\nheldout = "h.jsonl"\n'
    text = f'[model]\nid = "m"\n{data}[train]\n{train}\n[[experiment]]\nid = "a"\n{experiment}\n'
    plan = parse_plan(text, "plan.toml")
    entry = entry_of(plan, form_of(plan, expand(plan)[0]))
    assert entry == {"id": "a-2"} | ({"train": {k.partition(".")[2]: v for k, v in own.items()}} if own else {})
    copy = expand(parse_plan(with_experiment(text, entry), "plan.toml"))[-1]
    assert copy.settings == expand(plan)[0].settings


def test_keys_of_a_table_in_a_section_are_in_the_form() -> None:
    plan = parse_plan(SHIPPED, "plan.toml")
    form = form_of(plan, expand(plan)[0]) | {"train.augment.speed": "0.1"}
    entry = entry_of(plan, form)
    assert "train.augment.speed = 0.1" in experiment_lines(entry)
    added = parse_plan(with_experiment(SHIPPED, entry), "plan.toml")
    assert added.experiments[-1].overrides["train.augment.speed"] == 0.1


def test_what_is_wrong_in_the_form_is_said_as_for_a_file() -> None:
    plan = parse_plan(SHIPPED, "experiments.toml")
    form = form_of(plan, expand(plan)[0]) | {"id": "2.1", "train.steps": "many", "train.learning_rate": "3e-4"}
    with pytest.raises(PlanError) as error:
        parse_plan(with_experiment(SHIPPED, entry_of(plan, form)), "experiments.toml")
    assert "taken already" in str(error.value) and "train.steps" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        '[[experiment]]\nid = "a"',  # no line end
        '[[experiment]]\r\nid = "a"\r\n\r\n# about b\r\n[[experiment]]\r\nid = "b"\r\n',
        '[[experiment]]\nid = "a"\n\n# of the queue\n[queue]\nmax_runs = 3 # last\n',
        '[[experiment]]\nid = "a"\ntitle = """\n[[experiment]]\n# no comment\n"""\n[[history]]\nid = "x"\n',
        '[[history]]\nid = "x"\n[[experiment]]\nid = "a"\n[experiment.train]\nsteps = 3\n',
        "",
        'experiment = []\n',
    ],
)  # fmt: skip
def test_any_form_of_plan_keeps_its_bytes_or_is_refused(text: str) -> None:
    entry = {"id": "new", "train": {"steps": 5}}
    try:
        found = with_experiment(text, entry)
    except PlanError:
        assert text.startswith("experiment = ")
        return
    assert tomli.loads(found)["experiment"][-1] == entry
    before, _, rest = found.partition("[[experiment]]" + ("\r\n" if "\r\n" in text else "\n") + 'id = "new"')
    assert before.rstrip() in text and found.replace("\r\n", "\n").count("\r") == 0
    assert all(line in found for line in text.splitlines()) and rest
