"""One run on several devices: the processes that torchrun started for it, and how they share the work.

Rank 0 is the trainer as on one device: it alone writes, decides and asks. The others load the same model and data and
do their share of a step or an evaluation when it asks them to. What all have done is put together in the plan's order:
gradients are summed rank by rank, losses micro-batch by micro-batch, transcripts batch by batch. So each rank has the
same weights after each step, and the run is the one of a single device but for how sums round.

Objects travel over gloo, so that a process that has ended is noticed there; tensors of GPUs over NCCL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from core.errors import Interrupted, ModelError
from core.plan.schema import threads_of_each
from core.runs.events import Final
from core.training.stopping import StopFlag

PATIENCE = timedelta(days=1)
"""For what rank 0 does alone, such as decoding audio for the first time. A process that ends is noticed at once."""
_WORD_S = 1.0
"""For the last word of a process that was lost: it is there before its end, if it could say one."""
_Done = TypeVar("_Done")


class PeerLostError(Exception):
    """Another process of the run has ended without a word, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Order:
    """What rank 0 asks the others to do."""

    what: str
    """`open` the data, `score` a set, `train` (attach the adapter), `step`, `agree` on the weights, `end`."""
    step: int | None = None
    name: str = ""
    """Of the set that is scored."""


class Ranks:
    """The processes of a run, of which this one is `rank`. One alone is all there is of a run on one device."""

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0, stopping: StopFlag | None = None) -> None:
        """`local`: which of the devices of this machine is its own."""
        self.rank, self.size = rank, size
        self.layers: tuple[str, ...] = ()
        """Names of the layers that have other weights than the base model while something of the run is scored."""
        self._stopping = stopping or StopFlag()
        self._on_gpus: Any = None
        self._joined, self._between = False, True
        if size > 1 and torch.cuda.is_available():
            if local >= (count := torch.cuda.device_count()):
                raise ModelError(
                    f"train.devices: process {rank} finds {count} GPU{'' if count == 1 else 's'} on its machine, and "
                    f"none is left for it: give the run more, or lower train.devices"
                )
            torch.cuda.set_device(local)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str], stopping: StopFlag) -> Ranks:
        """As torchrun tells a process that it started."""
        rank, size, local = (int(environment.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return cls(rank, size, local, stopping)

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def threads(self, threads: int) -> int:
        """CPU threads of each process, of `threads` for the whole run."""
        return threads_of_each(threads, self.size)

    def join(self) -> None:
        """Find the others. They have a day for it: torchrun ends those that wait for one that has died."""
        if self.size == 1:
            return
        with self._peers():
            self._dist.init_process_group("gloo", timeout=PATIENCE)
            if torch.cuda.is_available():
                self._on_gpus = self._dist.new_group(backend="nccl")
        self._joined = True

    # What rank 0 asks, and what all answer

    def tell(self, what: str, step: int | None = None, name: str = "") -> None:
        """Ask the others for it. Nothing where there are none, or where this one is asked itself."""
        if self.size == 1 or not self.leads:
            return
        self._between = False
        with self._peers():
            self._dist.broadcast_object_list([Order(what, step, name)], src=0)

    def heard(self) -> Order:
        """What rank 0 asks for next."""
        box: list[Any] = [None]
        with self._peers():
            self._dist.broadcast_object_list(box, src=0)
        order: Order = box[0]
        if order.what == "end":
            self._all(None)
        return order

    def agree(self, what: str, value: str) -> None:
        """Raise ModelError, on each of them, unless all have the same value."""
        values = self._all(value)
        self._between = True
        if differing := [rank for rank, other in enumerate(values) if other != values[0]]:
            raise ModelError(
                f"train.devices: {what} of process {differing[0]} is not that of process 0 ({values[differing[0]]}, "
                f"not {values[0]}): run all of them on machines of one kind, with the same versions and files"
            )

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Give the others the values that rank 0 has."""
        for tensor in tensors if self.size > 1 else ():
            values = tensor.detach().contiguous()
            with self._peers():
                self._dist.broadcast(values, src=0, group=self._group(values))
            if not self.leads:
                with torch.no_grad():
                    tensor.copy_(values)

    def share(self, count: int) -> range:
        """Which of `count` micro-batches of a step are its own: as many on each, one after the other."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def whole_step(self, done: list[_Done], parameters: Iterable[nn.Parameter]) -> list[_Done]:
        """What all have made of a step's micro-batches, in their order; gradients are then those of all.

        They are summed in the order of the ranks, by each for itself: the same bits everywhere.
        """
        if self.size == 1:
            return done
        every = list(parameters)
        # first what tells whether all have come so far: NCCL would wait for one that has not
        parts = self._all((done, [parameter.grad is not None for parameter in every]))
        reached = map(any, zip(*(flags for _, flags in parts), strict=True))
        self._sum_gradients([parameter for parameter, one in zip(every, reached, strict=True) if one])
        self._between = True
        return [one for theirs, _ in parts for one in theirs]

    def shared(self, count: int, work: Callable[[int], _Done]) -> list[_Done]:
        """`work(0)` … `work(count - 1)`, of which each rank does its own, every `size`-th: all have all of them then.

        Raises Interrupted on each of them where one was asked to stop, when all have ended theirs.
        """
        if self.size == 1:
            return [work(number) for number in range(count)]
        mine: dict[int, _Done] = {}
        stopped: str | None = None
        try:
            for number in range(self.rank, count, self.size):
                mine[number] = work(number)
        except Interrupted as error:
            stopped = str(error)
        found: dict[int, _Done] = {}
        for theirs, reason in self._all((mine, stopped)):
            found |= theirs
            stopped = stopped or reason
        self._between = True
        if stopped is not None:
            raise Interrupted(stopped)
        return [found[number] for number in range(count)]

    def end(self) -> None:
        """Let the others end, unless they are in the middle of something. Raises PeerLostError if one is missing."""
        if self._joined and self.leads and self._between:
            self.tell("end")
            self._joined = False
            self._all(None)

    # How one of them ends

    def last_word(self, final: Final) -> None:
        """Of one that is not rank 0: what it ends with, which rank 0 will look for when it misses it."""
        with suppress(Exception):  # rank 0 may have ended, and torch's store with it
            self._store.set(f"last word {self.rank}", f"{final.outcome}\n{final.message}")
            self._store.get(f"last word {self.rank}")  # set() does not wait until it is there

    def settle(self, final: Final, error: BaseException | None) -> Final | None:
        """How rank 0 ends, knowing how the others do; None: one of them is lost, so that the run has crashed.

        That another one ends is told to this process as a signal is that asks it to stop: only if all are there, or
        have stopped themselves, it has stopped.
        """
        if self.size == 1:
            return final
        lost = isinstance(error, PeerLostError)
        try:
            self.end()
        except PeerLostError:
            lost = lost or final.outcome == "stopped"
        if not lost:
            return final
        words = self._last_words()
        for outcome, message in words:
            if outcome != "stopped":
                return Final(outcome, message, final.step)
        if len(words) < self.size - 1:
            return None
        # A signal may reach another one alone, which stops while this one waits for it.
        return final if final.outcome == "stopped" else Final("stopped", words[0][1], final.step)

    def _last_words(self) -> list[tuple[str, str]]:
        """(outcome, message) of those that could say one."""
        words: dict[int, tuple[str, str]] = {}
        until = time.monotonic() + _WORD_S
        with suppress(Exception):
            while len(words) < self.size - 1 and time.monotonic() < until:
                for rank in set(range(1, self.size)) - set(words):
                    if self._store.check([f"last word {rank}"]):
                        outcome, _, message = self._store.get(f"last word {rank}").decode().partition("\n")
                        words[rank] = outcome, message
                if any(outcome != "stopped" for outcome, _ in words.values()):
                    break
                time.sleep(0.1)
        return [words[rank] for rank in sorted(words)]

    # torch.distributed

    @property
    def _dist(self) -> Any:
        import torch.distributed as dist

        return dist

    @property
    def _store(self) -> Any:
        return self._dist.distributed_c10d._get_default_store()

    def _group(self, tensor: Tensor) -> Any:
        return self._on_gpus if tensor.device.type == "cuda" else None

    def _all(self, mine: Any) -> list[Any]:
        """What each of them has, in the order of the ranks; that one was asked to stop becomes known to all."""
        if self.size == 1:
            return [mine]
        found: list[Any] = [None] * self.size
        with self._peers():
            self._dist.all_gather_object(found, (self._stopping.count > 0, mine))
        if any(asked for asked, _ in found):
            self._stopping.ask()
        return [theirs for _, theirs in found]

    def _sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).detach().flatten().float() for p in parameters]
        )
        found = [torch.empty_like(flat) for _ in range(self.size)]
        with self._peers():
            self._dist.all_gather(found, flat, group=self._group(flat))
        total = found[0]
        for theirs in found[1:]:
            total += theirs
        parts = torch.split(total, [p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    @contextmanager
    def _peers(self) -> Iterator[None]:
        """What torch says when another process is gone has no class of its own."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise PeerLostError(f"another process of the run has ended ({str(error).splitlines()[0]})") from error


ALONE = Ranks()
"""Of a run on one device."""


def digest(tensors: Iterable[Tensor]) -> str:
    """16 hex digits over their bytes."""
    import hashlib

    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
