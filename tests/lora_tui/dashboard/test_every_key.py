"""No key without a test: the tours press every key of every screen, and look at what the person would notice."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import key_tours as tours
import pytest
from eyes import Eyes
from plan_folder import PlanFolder
from textual.binding import Binding
from textual.dom import DOMNode

from lora_tui import dashboard

Make = Callable[..., Any]
ALL = 'until = "all"'


def _classes(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _classes(cls)


def bound_keys() -> list[tuple[str, str, str]]:
    """(class, key, action) of all bindings that the dashboard makes itself."""
    for module in pkgutil.walk_packages(dashboard.__path__, f"{dashboard.__name__}."):
        importlib.import_module(module.name)
    own = {cls for cls in _classes(DOMNode) if cls.__module__.startswith(f"{dashboard.__name__}.")}
    bindings = [(cls.__name__, binding) for cls in own for binding in cls.__dict__.get("BINDINGS", ())]
    assert all(isinstance(binding, Binding) for _, binding in bindings)
    return sorted((name, key, b.action) for name, b in bindings for key in b.key.split(","))


def test_every_key_of_every_screen_is_on_a_tour() -> None:
    bound = bound_keys()
    assert len(bound) > 100
    pressed = [(key.owner, key.key) for tour in tours.TOURS.values() for key in tour if key.owner]
    for name, key, action in bound:
        # A key with two meanings, such as Hold and Release, is pressed for each.
        meanings = sum((n, k) == (name, key) for n, k, _ in bound)
        assert pressed.count((name, key)) >= meanings, f"{name}: no tour presses {key} ({action})"
    unknown = set(pressed) - {(name, key) for name, key, _ in bound}
    assert not unknown, f"tours press what is no key: {unknown}"
    for tour in tours.TOURS.values():
        assert all(key.see or key.gone or key.that for key in tour if key.owner), "a key whose effect is not looked at"


async def travel(tour: list[Any], app: Any, eyes: type[Eyes], ready: str, size: tuple[int, int] = (160, 40)) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        seen = eyes(app, pilot)
        await seen.see_on_screen(ready)

        async def until(holds: Callable[[], bool], what: str) -> None:
            for _ in range(400):
                if holds():
                    return
                await pilot.pause(0.05)
            raise AssertionError(f"{what}\n{seen.whole()}")

        def answers(name: str, key: str) -> bool:
            active = app.screen.active_bindings.get(key)
            if active is None or not active.enabled:
                return False
            # A widget may name the key, too, and pass it on: an input does so with the arrows.
            return name in (type(active.node).__name__, type(app.screen).__name__)

        for step in tour:
            told = f"{step.owner} {step.key}"
            if step.owner:
                await until(lambda s=step: answers(s.owner, s.key), f"{told}: not offered")  # type: ignore[misc]
                before = seen.whole()
                assert not [text for text in step.see if text in before], f"{told}: seen before the key"
                assert all(text in before for text in step.gone), f"{told}: not there before the key\n{before}"
                assert step.that is None or not step.that(app), f"{told}: so before the key"
            await pilot.press(step.key)
            if step.that is not None:
                await until(lambda s=step: s.that(app), f"{told}: nothing came of it")  # type: ignore[misc]
            if app._exit:
                return
            await seen.see_on_screen(*step.see)
            await seen.gone(*step.gone)
            app.clear_notifications()
            await pilot.pause()


def test_keys_over_finished_runs(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run("2.1", "0" * 10).train(1000).finish("the last word\n")
    make_run("3.1", "1" * 10, learning_rate=5e-5).train(1000).finish()
    asyncio.run(travel(tours.FINISHED, make_app(), eyes, "✓ data ok"))


def test_keys_where_there_is_no_room_for_all_plots(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run("2.1", "0" * 10).train(1000).finish()
    asyncio.run(travel(tours.SMALL, make_app(), eyes, "★ 500", (80, 24)))


def test_keys_over_a_long_plan(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write("".join(f'[[experiment]]\nid = "e{i:02}"\ntrain.seed = {i}\n' for i in range(40)), ALL)
    folder.runs.root.mkdir()
    asyncio.run(travel(tours.MANY, queue_app(), eyes, "▸ e00"))


THREE = "".join(f'[[experiment]]\nid = "{name}"\ntrain.seed = {i}\n' for i, name in enumerate("abc"))


def test_keys_over_a_queue(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write(THREE, ALL)
    folder.runs.root.mkdir()
    asyncio.run(travel(tours.QUEUE, queue_app(), eyes, "▸ a"))


@pytest.mark.parametrize(
    ("tour", "queue", "behaviours"),
    [(tours.ALIVE, ALL, ["wait"]), (tours.PAUSED, f"{ALL}\npause_after = 1\nretries = 0", ["error", "good"])],
)
def test_keys_while_something_trains(
    folder: PlanFolder,
    queue_app: Make,
    eyes: type[Eyes],
    fake_supervisor: tuple[str, ...],
    tour: list[Any],
    queue: str,
    behaviours: list[str],
) -> None:
    folder.write(THREE, queue)
    folder.script(a=behaviours, b=["good"], c=["good"])
    asyncio.run(travel(tour, queue_app(supervisor=fake_supervisor), eyes, "▸ a"))


def test_keys_over_a_broken_plan(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.plan.write_text("[train]\nstepz = 3\nlearning_rate = 'fast'\n")
    asyncio.run(travel(tours.BROKEN, queue_app(), eyes, "stepz"))
