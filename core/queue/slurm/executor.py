"""Trainers as jobs of a Slurm cluster: submitted once, found again, and never *running* for ever.

How a job stands is told, in this order, by its run's last word, squeue, `scontrol show job` and the accounts, if there
are any. What none of them knows has ended after a grace period. The trainer's process and its locks are on another
node: nothing here looks at them. The run's folder may show there what happened here some seconds late.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from core.console import log_line
from core.errors import may_pass
from core.plan.schema import SlurmSettings
from core.queue.executor import STOP_GRACE_S, THREAD_VARIABLES, TRAINER_COMMAND, child_environment
from core.queue.executors import JobNews, Trainer
from core.queue.retry_policy import CANCELLED, INTERRUPTED
from core.queue.slurm import commands
from core.queue.slurm.commands import Job, JobEnd
from core.queue.slurm.job import batch_script, comment_of, folder_key, is_job_of, sbatch_options, told_by
from core.runs.documents import read_result
from core.runs.folder import open_append
from core.runs.paths import RunPaths, RunsFolder
from core.runs.state_folder import STATE_VARIABLE
from core.runs.store import read_run
from core.system.process import ProcessIdentity

FIRST_POLL_S = 2.0
SLOWEST_POLL_S = 30.0
"""A poll asks for all jobs at once; while nothing changes each comes half as long again after the one before it."""
_SLOWER = 1.5
FRESH_S = 2.0
"""So old a list of jobs may be, by which it is told that a run has none."""
WORD_WAIT_S = 60.0
"""For a last word that must have been written, and that this machine may not see yet: NFS keeps what it has read of a
folder for as long as that. So long, too, a job is looked for that Slurm has forgotten."""
DEATH_WAIT_S = 5.0
"""For the last word of a job that was killed: there may be none."""
_NO_MATTER_S = 600.0
"""An expected start that moves by less, or by a tenth of the time till then, is not told anew."""


class JobTrainer:
    """A job that was submitted as the trainer of a run."""

    gpu: str | None = None
    identity: ProcessIdentity | None = None
    pidfd: int | None = None
    exit_status: int | None = None

    def __init__(self, cluster: SlurmCluster, run: RunPaths, job: str, attempts: int, *, fresh: bool = False) -> None:
        """`attempts`: in the run's folder before. `fresh`: it was submitted now, and as the plan says."""
        self.run, self.attempts_before = run, attempts
        self._cluster, self._job = cluster, job
        self._known_since = time.monotonic()
        self._seen: Job | None = None
        self._told: JobNews | None = None
        self._over_since: float | None = None
        self._end: JobEnd | None = None
        self._ended = False
        self._stop_asked: float | None = None
        self._kill_asked: float | None = None
        self._sent = ""
        self._to_hold: bool | None = None
        self._to_place: int | None = None
        """What is wanted of a job that waits; None: nothing."""
        self._held = False if fresh else None
        self._place = 0 if fresh else None
        """What the controller has heard of that; None: an earlier supervisor may have said anything."""
        self._tried_at = 0.0

    @property
    def job(self) -> str | None:
        """Its number."""
        return self._job

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop or killed."""
        return self._stop_asked is not None or self._kill_asked is not None

    @property
    def held(self) -> bool:
        """Whether it is to wait until it is released."""
        return self._to_hold is True and (self._seen is None or self._seen.pending)

    def alive(self) -> bool:
        """Whether Slurm runs it, or is to; False once its run has a result and Slurm does not answer."""
        if not self._ended:
            self._ended = self._has_ended()
        return not self._ended

    def news(self) -> JobNews | None:
        """How squeue lists it, where that has changed."""
        if self._seen is None:
            return None
        now = JobNews(self._seen.state, self._seen.reason, self._seen.start if self._seen.pending else None)
        if self._told is not None and _same(self._told, now):
            return None
        self._told = now
        return now

    def stop(self) -> None:
        """SIGTERM to the trainer; a job that has not started is cancelled."""
        if not self.stopping:
            self._stop_asked = time.monotonic()
            self._send("stop")

    def kill(self) -> None:
        """SIGKILL to all that the job runs, and no job any more."""
        if self._kill_asked is None:
            self._kill_asked = time.monotonic()
            self._send("kill")

    def escalate(self) -> bool:
        """Kill it if its grace is over; ask, also again, what the controller has not heard. Slurm sees to its death."""
        now = time.monotonic()
        if self._kill_asked is None and self._stop_asked is not None and now - self._stop_asked > STOP_GRACE_S:
            self.kill()
        wanted = "kill" if self._kill_asked is not None else "stop" if self._stop_asked is not None else ""
        if wanted and self._sent != wanted and self._cluster.reached and self._over_since is None:
            self._send(wanted)
        if not wanted:
            self._arrange()
        return True

    def hold(self, *, held: bool) -> None:
        """`scontrol hold` and `release`, of a job that has not started: by `escalate`."""
        self._to_hold = held

    def place(self, place: int) -> None:
        """By `nice`, which any user may raise: jobs of one submission start in its order where they are equal."""
        self._to_place = place

    def _arrange(self) -> None:
        """Tell the controller what is wanted of a job that waits and it has not heard; once for each list of jobs."""
        if (self._to_hold in (None, self._held) and self._to_place in (None, self._place)) or (
            self._seen is None or not self._seen.pending or self._over_since is not None
        ):
            return
        if not self._cluster.reached or self._cluster.asked_at <= self._tried_at:
            return
        try:
            seen = self._cluster.listed(self._job, self.run, self._known_since)
        except OSError:
            return
        self._tried_at = time.monotonic()
        if seen is None or not seen.pending:
            return
        if (held := self._to_hold) is not None and held != self._held:
            is_held = seen.reason == "JobHeldUser"
            if is_held == held or self._heard(lambda: commands.hold(self._job, held=held)):
                self._held = held
        place = self._to_place
        if place not in (None, self._place) and self._heard(lambda: commands.set_nice(self._job, 100 * (place or 0))):
            self._place = place

    def _heard(self, say: Callable[[], None]) -> bool:
        """Whether that need not be said again: it was heard, or refused for good."""
        try:
            say()
        except OSError as error:
            return not may_pass(error)
        self._cluster.changed()
        return True

    def end(self, outcome: str, message: str) -> tuple[str, str]:
        """What came of it. `interrupted`: Slurm took its place away, which costs no restart; `cancelled`: somebody
        cancelled it, and it is not submitted again by itself."""
        if outcome not in ("stopped", "crashed", "rebooted"):
            return outcome, message
        if self.stopping:
            return outcome, message
        return job_outcome(self._end, outcome, message, self._job, begun=self._begun())

    def close(self) -> None:
        """Nothing of it is here."""
        self._cluster.forget(self)

    def release(self) -> None:
        """It goes on."""
        self._cluster.forget(self)

    def _begun(self) -> bool:
        return len(read_run(self.run).attempts) > self.attempts_before

    def _has_ended(self) -> bool:
        cluster = self._cluster
        if not cluster.reached:
            return read_result(self.run)[0] is not None  # Slurm says nothing: its result does
        if cluster.asked_at < self._known_since:
            return False  # of a job that was submitted since, the list does not tell
        seen = cluster.jobs.get(self._job)
        if seen is not None and not seen.over and cluster.is_mine(seen, self.run):
            self._seen, self._over_since, self._end = seen, None, None
            return False
        return self._is_over()

    def _is_over(self) -> bool:
        """Of a job that squeue lists as ended, or not at all. Asked at most once a poll."""
        now = time.monotonic()
        if self._over_since is None:
            self._over_since = now
            self._cluster.changed()
            try:
                self._end = self._cluster.end_of(self._job, self.run)
            except OSError:
                self._over_since = None  # the controller went away in this moment
                return False
            if self._end is not None and not self._end.over:
                self._over_since = None
                return False
        snapshot = read_run(self.run)
        own = snapshot.attempts[self.attempts_before :]
        if snapshot.result is not None or (own and own[-1].final is not None):
            return True
        # Of what Slurm ended the word is only welcome; what ended by itself must have had one.
        ended = self._end is not None and self._end.state in ("COMPLETED", "FAILED") and not self._end.signal
        waits = WORD_WAIT_S if self._end is None or (ended and own) else DEATH_WAIT_S
        # What was listed as over for a moment may be queued again: the last look must be a new one.
        return now - self._over_since > waits and self._cluster.asked_at > self._over_since

    def _send(self, what: str) -> None:
        """`stop` or `kill`. Nothing is lost where the controller does not hear it: `escalate` asks again.

        Nothing is sent to a number that squeue does not list as this run's job now: it may be anybody's.
        """
        try:
            if self._cluster.listed(self._job, self.run, self._known_since) is None:
                return
            if what == "stop":
                commands.scancel(self._job, "--state=PENDING")
                commands.scancel(self._job, "--batch", "--signal=TERM")
            else:
                commands.scancel(self._job, "--full", "--signal=KILL")
                commands.scancel(self._job)
        except OSError as error:
            log_line(f"{self.run.name}: job {self._job}: {what}: {error}; tried again")
        else:
            self._sent = what
        self._cluster.changed()


def job_outcome(  # noqa: PLR0911 - one return a case
    end: JobEnd | None, outcome: str, message: str, job: str, *, begun: bool
) -> tuple[str, str]:
    """(outcome, message) of a job that nobody of ours ended; given: what its run's files say of it."""
    if end is None:
        lost = f"Slurm does not know job {job} any more"
        return (outcome, f"{lost}, and it left no last word") if begun else (INTERRUPTED, f"{lost}: it never started")
    if end.state == "CANCELLED":
        return CANCELLED, f"job {job} was cancelled, and not by this queue"
    if end.state in ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"):
        how = {"PREEMPTED": "another job took its place", "REVOKED": "it was revoked"}.get(end.state, "its node failed")
        return INTERRUPTED, f"job {job}: {how}" + (f" ({end.node})" if end.node else "")
    limit = end.limit
    if end.state in ("TIMEOUT", "DEADLINE"):
        return outcome, f"the time limit of job {job} was reached"
    if end.state == "OUT_OF_MEMORY":
        return outcome, f"job {job} was killed for want of memory: raise queue.slurm.mem"
    if outcome == "stopped":
        # Slurm counts in minutes, and sends the signal up to one minute early.
        near = limit is not None and end.seconds >= limit / 2
        return outcome, f"the time limit of job {job} came near: it saved and ended" if near else message
    how = f"by signal {end.signal}" if end.signal else f"with exit code {end.exit_code}"
    return outcome, f"job {job} ended {how}" + ("" if begun else " before its trainer said anything: see log.txt")


class SlurmExecutor:
    """Submits trainers with one plan's `[queue.slurm]`."""

    def __init__(self, cluster: SlurmCluster, settings: SlurmSettings) -> None:
        self._cluster = cluster
        self._settings = settings

    def start(self, run: RunPaths, threads: int, gpu: str | None = None, *, attempts: int = 0) -> Trainer | None:
        """Submit a job, unless the run has one. OSError: sbatch refused it, or cannot be reached now."""
        if self._cluster.has_job(run):
            return None
        with open_append(run.root, run.log):
            pass  # Slurm would follow a link that lies there
        comment = comment_of(self._cluster.key, run.name, attempts)
        options = sbatch_options(self._settings, run.root, run.log, threads, comment)
        variables = {name: str(threads) for name in THREAD_VARIABLES}
        variables[STATE_VARIABLE] = str(self._cluster.runs.state.resolve())
        script = batch_script([*self._cluster.command, str(run.root)], self._settings.setup, variables)
        job = commands.sbatch(options, script, child_environment({}))
        return self._cluster.submitted(run, Job(job, "PENDING", name=run.name, comment=comment), attempts)

    def adopt(self, run: RunPaths, identity: ProcessIdentity | None) -> Trainer | None:
        """The run's job, by its comment: whoever was killed right after sbatch left it without another word.

        None, too, on a machine without Slurm, where `start` says so. OSError: it cannot be told now.
        """
        try:
            return self._cluster.job_of(run)
        except commands.SlurmMissing:
            return None


class SlurmCluster:
    """The jobs of this user on the cluster, as one squeue tells them all, again and again."""

    def __init__(self, runs: RunsFolder, command: Sequence[str] = TRAINER_COMMAND) -> None:
        self.runs = runs
        self.command = tuple(command)
        self.key = folder_key(runs.root)
        self.jobs: Mapping[str, Job] = {}
        """By number."""
        self.asked_at = 0.0
        """Monotonic time at which the list was asked for that `jobs` holds."""
        self.reached = True
        """Whether the last try had an answer."""
        self._mine: dict[str, list[tuple[Job, int]]] = {}
        """Run → its jobs that have not ended, and the attempts before them."""
        self._poll: tuple[subprocess.Popen[bytes], IO[bytes], float] | None = None
        self._interval = FIRST_POLL_S
        self._poll_at = 0.0
        self._watched = 0
        self._said = ""

    def executor(self, settings: SlurmSettings) -> SlurmExecutor:
        """Submits with these settings."""
        return SlurmExecutor(self, settings)

    def full(self, trainers: Sequence[Trainer], most: int) -> str:
        """Why no further job is submitted; empty: one may be."""
        count = sum(isinstance(trainer, JobTrainer) and not trainer.held for trainer in trainers)
        return f"{count} jobs are in Slurm's queue (queue.slurm.jobs = {most})" if count >= most else ""

    def find(self, run: RunPaths, job: str, attempts: int) -> Trainer | None:
        """A job that was submitted before, whatever became of it: how it stands its own looks will tell.

        None on a machine without Slurm, where nobody will ever tell.
        """
        return self._watch(run, job, attempts) if commands.installed() else None

    def _watch(self, run: RunPaths, job: str, attempts: int, *, fresh: bool = False) -> Trainer:
        self._watched += 1
        return JobTrainer(self, run, job, attempts, fresh=fresh)

    def listed(self, job: str, run: RunPaths, since: float) -> Job | None:
        """The job of that number, where a list of just now has it as the run's and not as ended.

        `since`: monotonic time before which no list can know of it. OSError: that cannot be told now.
        """
        self._ask_if_old(since)
        seen = self.jobs.get(job)
        return seen if seen is not None and not seen.over and self.is_mine(seen, run) else None

    def has_job(self, run: RunPaths) -> bool:
        """Whether the run has a job that has not ended. OSError: that cannot be told now."""
        self._ask_if_old()
        return run.name in self._mine

    def job_of(self, run: RunPaths) -> Trainer | None:
        """The run's job that has not ended; None: it has none. OSError: that cannot be told now."""
        if not self.has_job(run):
            return None
        [(job, attempts), *_] = self._mine[run.name]
        return self._watch(run, job.id, attempts)

    def submitted(self, run: RunPaths, job: Job, attempts: int) -> Trainer:
        """A job that Slurm has just taken."""
        self._mine.setdefault(run.name, []).append((job, attempts))
        self.changed()
        return self._watch(run, job.id, attempts, fresh=True)

    def forget(self, trainer: JobTrainer) -> None:
        """Nobody watches it any more."""
        self._watched -= 1
        self._mine.pop(trainer.run.name, None)

    def is_mine(self, job: Job | JobEnd, run: RunPaths) -> bool:
        """Whether the job that has the number of the run's job is that job."""
        return is_job_of(job.comment, job.name, self.key, run.name)

    def end_of(self, job: str, run: RunPaths) -> JobEnd | None:
        """How a job ended; None: nobody knows it. OSError: the controller does not answer."""
        end = commands.job_end(job)
        return end if end is not None and self.is_mine(end, run) else None

    def changed(self) -> None:
        """Something happened: look soon again."""
        self._interval = FIRST_POLL_S
        self._poll_at = min(self._poll_at, time.monotonic() + FIRST_POLL_S)

    def look(self) -> None:
        """Take what squeue has said since the last call, or start one if it is time to. Never waits for it."""
        if self._poll is not None:
            self._take_poll(*self._poll)
        elif self._watched and time.monotonic() >= self._poll_at:
            self._start_poll()

    def close(self) -> None:
        """End a squeue that is still at it."""
        if self._poll is not None:
            process, file, _ = self._poll
            process.kill()
            process.wait()
            file.close()
            self._poll = None

    def _start_poll(self) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the poll: a pipe would fill up with many jobs
        try:
            process = subprocess.Popen(
                commands.squeue_command(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=commands.slurm_environment(),
                start_new_session=True,
            )
        except OSError as error:
            file.close()
            self._failed(str(error))
            return
        self._poll = process, file, time.monotonic()

    def _take_poll(self, process: subprocess.Popen[bytes], file: IO[bytes], asked_at: float) -> None:
        status = process.poll()
        if status is None:
            if time.monotonic() - asked_at > commands.WAIT_S:
                self.close()
                self._failed(f"squeue has not answered for {commands.WAIT_S:.0f} s")
            return
        with file:
            file.seek(0)
            said = file.read().decode(errors="replace")
        self._poll = None
        if status:
            self._failed(commands.said_by(said) or f"squeue ended with exit code {status}")
        else:
            self._take(commands.parse_squeue(said), asked_at)

    def _ask_if_old(self, since: float = 0.0) -> None:
        if not self.reached or self.asked_at < since or time.monotonic() - self.asked_at > FRESH_S:
            self._ask_now()

    def _ask_now(self) -> None:
        asked_at = time.monotonic()
        try:
            jobs = commands.squeue()
        except OSError as error:
            self._failed(error.strerror or str(error))
            raise
        self._take(jobs, asked_at)

    def _take(self, jobs: Mapping[str, Job], asked_at: float) -> None:
        same = self.reached and {j.id: j.state for j in jobs.values()} == {j.id: j.state for j in self.jobs.values()}
        if asked_at < self.asked_at:
            return  # a younger list is here already
        self.jobs, self.asked_at = jobs, asked_at
        self._mine = {}
        for job in jobs.values():
            told = None if job.over else told_by(job.comment, self.key)
            if told is not None:
                self._mine.setdefault(told[0], []).append((job, told[1]))
        if not self.reached:
            log_line("Slurm answers again")
        self.reached, self._said = True, ""
        self._next_poll(same=same)

    def _failed(self, why: str) -> None:
        self.reached = False
        if why != self._said:
            self._said = why
            log_line(f"Slurm does not answer ({why}): jobs go on, and are looked at again")
        self._next_poll(same=True)

    def _next_poll(self, *, same: bool) -> None:
        self._interval = min(SLOWEST_POLL_S, self._interval * _SLOWER) if same else FIRST_POLL_S
        self._poll_at = time.monotonic() + self._interval


def _same(before: JobNews, now: JobNews) -> bool:
    """Whether nothing worth telling has changed: the expected start of a waiting job moves all the time."""
    if (before.state, before.reason) != (now.state, now.reason):
        return False
    if before.expected is None or now.expected is None:
        return before.expected == now.expected
    moved = abs(before.expected - now.expected)
    return moved < max(_NO_MATTER_S, 0.1 * (now.expected - time.time()))
