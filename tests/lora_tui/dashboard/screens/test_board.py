"""The board, driven by Textual's pilot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from eyes import Eyes
from plan_folder import PlanFolder

Make = Callable[..., Any]


def test_the_board_shows_runs_plots_and_the_verdict_at_80_by_24(
    make_run: Make, make_app: Make, eyes: type[Eyes]
) -> None:
    make_run().train(1000, nan_at=300).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(80, 24)) as pilot:
            stands = ("SHIP 2.1 step 500: domain −5.00, heldout +0.10 (0.10 to spare)", "50 % chance that")
            verdict = (*stands, "✓ accepted", "Domain change", "−5.00", "log all is well", "nothing is running")
            text = await eyes(app, pilot).see(*verdict, "trade-off", "★ 500", "ships", "loss", "1 not finite")
            assert text.count("✓ PASS") == 6 and "guardrail" not in text
            await pilot.press("w")
            rates = ("domain WER %", "target", "last 3", "heldout WER, points", "guardrail", "1 not finite")
            assert "trade-off" not in await eyes(app, pilot).see(*verdict, *rates)
            await pilot.press("w")
            await eyes(app, pilot).see("trade-off", "ships")

    asyncio.run(look())


def test_moving_the_selection_shows_the_other_run(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run("2.1", "0" * 10).train(1000).finish("the first\n")
    make_run("2.2", "1" * 10).train(300)

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            see = eyes(app, pilot).see
            # What is alive is looked at first.
            await see("1 running", "▸ 2.2", "300 steps completed")
            await pilot.press("k")
            await see("▸ 2.1", "✓ accepted", "the first")
            await pilot.press("down")
            await see("▸ 2.2")
            await pilot.press("g")
            await see("▸ 2.1")
            await pilot.click("#queue", offset=(5, 2))
            await see("▸ 2.2")

    asyncio.run(look())


def test_enter_before_the_run_is_read_opens_it_when_it_is(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run("2.1", "0" * 10).train(1000).finish()
    make_run("2.2", "1" * 10).train(300)

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ 2.2", "300 steps completed")
            # Quicker than the reader: the run of the row that the cursor comes to was never read.
            app.screen.table.action_move(-1)
            app.screen.action_open_run()
            await seen.see("[1 intervals]", "2.1")

    asyncio.run(look())


def test_a_run_that_starts_to_train_is_seen_without_a_key(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    run = make_run().train(100)

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            see = eyes(app, pilot).see
            await see("10%")
            for step in range(101, 501):
                run.say(_step(step))
            run.flush()
            await see("50%")

    asyncio.run(look())


def _step(step: int) -> Any:
    from core.runs.events import Step

    return Step(step, 1.0, 1e-4, 1.0, 100, 15.0, 0.25)


def test_below_its_size_it_says_so_and_comes_back(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run().train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(80, 24)) as pilot:
            see = eyes(app, pilot).see
            await see("✓ accepted")
            for size in ((25, 5), (10, 2), (1, 1), (50, 12), (80, 12), (200, 60), (80, 24)):
                await pilot.resize_terminal(*size)
                await pilot.pause()
            await see("✓ PASS", "loss")
            await pilot.resize_terminal(25, 5)
            await pilot.pause(0.1)
            assert app.screen.query_one("#too-small").display

    asyncio.run(look())


def test_an_empty_folder_says_what_to_do_next(make_app: Make, eyes: type[Eyes]) -> None:
    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(80, 24)) as pilot:
            await eyes(app, pilot).see("`lora-tui init` writes a plan")

    asyncio.run(look())


def test_the_problems_of_a_plan_are_on_the_board(make_app: Make, eyes: type[Eyes], folder: PlanFolder) -> None:
    folder.plan.write_text("[train]\nstepz = 3\n")

    async def look() -> None:
        app = make_app(folder.plan)
        async with app.run_test(size=(120, 24)) as pilot:
            see = eyes(app, pilot).see
            await see("experiments.toml:2", "stepz")
            # A sentence that is longer than a line is broken, not cut.
            await pilot.resize_terminal(40, 24)
            await see("give a folder", "(relative to the plan)")
            await pilot.resize_terminal(120, 24)
            folder.write()
            await see("▸ a", "not run")

    asyncio.run(look())


def test_ascii_has_nothing_else_on_the_board(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run(title="Ünïcode ↯").train(1000).finish("früh\n")

    async def look() -> None:
        app = make_app(ascii_only=True)
        async with app.run_test(size=(200, 60)) as pilot:
            seen = eyes(app, pilot)
            text = await seen.see("+ accepted", "+ PASS")
            assert not [c for c in text if not c.isascii()], text
            await seen.see_on_screen("enter Open", "^p palette")
            assert seen.whole().isascii()
            await pilot.press("enter")
            await seen.see_on_screen("[1 intervals]", "+-95%")
            assert seen.whole().isascii()

    asyncio.run(look())


def test_a_queue_that_does_not_fit_says_which_rows_are_seen_and_keeps_its_headings(
    make_run: Make, make_app: Make, eyes: type[Eyes]
) -> None:
    for i in range(12):
        make_run(f"e{i:02}", f"{i:010}").train(50)

    async def look() -> None:
        for width, rows in ((80, ("1–4/12", "9–12/12")), (120, ("id ", "title ", "rows 9–12 of 12"))):
            app = make_app()
            async with app.run_test(size=(width, 24)) as pilot:
                seen = eyes(app, pilot)
                await seen.see(rows[0], "state", "heldout WER verdict")
                await pilot.press("end")
                await seen.see(*rows[1:], "heldout WER verdict")

    asyncio.run(look())


def test_the_palette_has_every_key_of_ours_once(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run("2.1", "0" * 10).train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            await eyes(app, pilot).see("✓ accepted")
            found = [(command.title, command.help) for command in app.get_system_commands(app.screen)]
            titles = [title for title, _ in found]
            assert len(titles) == len(set(titles)) and {"Choose theme", "Theme", "Zoom in", "Quit"} <= set(titles)
            assert "Copy selected text" not in titles and ("Cursor right", "key .") in found

    asyncio.run(look())


def test_what_is_started_next_stands_below_the_queue(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write('[[experiment]]\nid = "a"\ntitle = "first"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n')

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(80, 24)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("next a first, when the plan is queued")
            await seen.press("s")
            await seen.press("y")
            await seen.see("next a first, when a supervisor is at work")
            await seen.press("p")
            await seen.see("next b, when a supervisor is at work")
            await pilot.resize_terminal(40, 12)
            await seen.see("next b, when a supervisor is at work")
            await pilot.resize_terminal(80, 9)
            await seen.gone("next b")

    asyncio.run(look())


def test_a_run_that_would_not_ship_has_no_star_and_no_line(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run(heldout={0: 100, 250: 104, 500: 112, 750: 119, 1000: 125}).train(760)

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(160, 50)) as pilot:
            text = await eyes(app, pilot).see("off course", "☆ 500", "domain −5.00")
            assert "★" not in text and "┊" not in text

    asyncio.run(look())


def test_how_many_runs_were_judged_on_the_same_sets(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    for number in range(3):
        make_run(f"2.{number}", str(number) * 10).train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(160, 50)) as pilot:
            await eyes(app, pilot).see("Passing by luck", "any of the 3 runs judged on these sets does: up to 87.5 %")

    asyncio.run(look())
