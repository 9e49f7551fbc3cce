"""Run by another viewer's own Python: the loss of an events file, written with the library that viewer belongs to.

    PYTHON viewer_recordings.py wandb|tensorboard EVENTS_JSONL FOLDER

One scalar a step under the step's own number, nothing else. Only the standard library and the recording library are
imported: lora-tui need not be installed there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path


def losses(events: Path) -> Iterator[tuple[int, float]]:
    """(step, loss) of every logged step."""
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if event["event"] == "step":
                yield event["step"], float(event["loss"])


def write_wandb(events: Path, folder: Path) -> None:
    """An offline run: FOLDER/wandb/offline-run-*/run-*.wandb."""
    import wandb

    settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)
    with wandb.init(mode="offline", project="viewers", dir=str(folder), settings=settings) as run:
        for step, loss in losses(events):
            run.log({"loss": loss}, step=step)


def write_tensorboard(events: Path, folder: Path) -> None:
    """FOLDER/events.out.tfevents.*"""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder), max_queue=10_000) as writer:
        for step, loss in losses(events):
            writer.add_scalar("loss", loss, step)


if __name__ == "__main__":
    {"wandb": write_wandb, "tensorboard": write_tensorboard}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
