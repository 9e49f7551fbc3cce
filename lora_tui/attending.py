"""A headless command attached to the queue: it follows its submission, keeps a supervisor up, stops what it started."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from core.errors import Interrupted, RunFolderError
from core.queue.executor import KILL_WAIT_S, STOP_GRACE_S
from core.queue.journal import Finish
from core.queue.requests import Submission
from core.system.held_folder import HeldFolder
from core.system.signals import StopSignals
from lora_tui.diagnostics import say
from lora_tui.follow import Follower

if TYPE_CHECKING:
    from core.queue.client import QueueClient

POLL_S = 0.5
MOST_RESTARTS = 3
RESTARTS_WITHIN_S = 600.0
"""A supervisor that ends unexpectedly more than three times in ten minutes is broken; a killed one is replaced."""
STOP_WAIT_S = STOP_GRACE_S + KILL_WAIT_S + 15.0
"""How long a stop may take before the face leaves the rest to the supervisor."""


class Signals(StopSignals):
    """The first one interrupts, or is only counted while `patient`; the second interrupts."""

    patient = False

    def came(self) -> None:
        """Raise Interrupted, unless it is only counted."""
        if not self.patient:
            raise Interrupted("interrupted")
        if self.count > 1:
            raise Interrupted("interrupted again: the supervisor goes on stopping what was started")


class Session:
    """Attached to the queue until the submission ends. A signal stops what it started, cleanly."""

    def __init__(self, client: QueueClient, follower: Follower, submission: Submission, signals: Signals) -> None:
        self._client = client
        self._follower = follower
        self._submission = submission
        self._signals = signals
        self._restarts: list[float] = []

    def attend(self) -> Finish:
        """Follow until the end. RunFolderError: the supervisor cannot be kept up, or the runs folder is gone."""
        home = HeldFolder(self._client.runs.root)
        while True:
            if lost := home.lost():
                raise RunFolderError(
                    f"{lost}. What trained there stops and saves, and goes on when the same command is given with "
                    "--runs where the folder is"
                )
            self._follower.poll()
            if self._follower.ending is not None:
                for line in self._follower.left_behind():
                    say(line)
                return self._follower.ending
            if self._signals.count:
                return self._stop()
            self._watch_supervisor()
            self._pause()

    def _pause(self) -> None:
        deadline = time.monotonic() + POLL_S
        while not self._signals.count and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _stop(self) -> Finish:
        """Ask the queue to stop, and wait, but not for ever. Interrupted, unless all was done in that moment."""
        say("stopping: the trainer finishes its step and saves. A second signal ends this command at once")
        self._client.ask("stop", self._submission.id)
        deadline = time.monotonic() + STOP_WAIT_S
        while self._follower.ending is None and time.monotonic() < deadline:
            time.sleep(0.1)
            self._follower.poll()
            if self._follower.ending is None and not self._client.supervisor_works():
                self._client.ensure_supervisor()
        ending = self._follower.ending
        if ending is not None and ending.complete:
            return ending
        for line in self._follower.states():
            say(line)
        late = "" if ending is not None else ": the trainer has not ended yet, the supervisor sees to it"
        raise Interrupted(f"interrupted{late}. The same command goes on from what was saved")

    def _watch_supervisor(self) -> None:
        if self._client.supervisor_works():
            return
        self._follower.poll()
        if self._follower.ending is not None:
            return
        if self._follower.told_to_stop:
            raise Interrupted("the supervisor was told to stop; the same command goes on from what was saved")
        tail = self._client.log_tail()
        now = time.monotonic()
        self._restarts = [when for when in self._restarts if now - when < RESTARTS_WITHIN_S]
        if len(self._restarts) >= MOST_RESTARTS:
            raise RunFolderError(f"the supervisor ended unexpectedly again and again; the end of its log:\n{tail}")
        self._restarts.append(now)
        say(f"the supervisor ended unexpectedly; starting another one. The end of its log:\n{tail}", multiline=True)
        self._client.submit(self._submission)
