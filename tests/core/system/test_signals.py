"""A process hears that it is to stop, and nothing of that is left behind."""

from __future__ import annotations

import os
import signal

import pytest

from core.system.process import Interrupts, Later, StopSignals

BOTH = (signal.SIGTERM, signal.SIGINT)


def test_signals_are_counted_and_the_handlers_put_back() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    with StopSignals() as signals:
        for number in BOTH:
            os.kill(os.getpid(), number)
    assert signals.count == 2
    assert [signal.getsignal(number) for number in BOTH] == before


@pytest.mark.parametrize("number", BOTH)
def test_an_interrupt_is_raised_and_the_handlers_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as signals:
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.count == 0 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_in_the_middle_of_what_must_be_whole_comes_afterwards() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with Later():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest")
        done.append("what follows")
    assert done == ["the rest"]
