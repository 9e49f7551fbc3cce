"""Halves of the spoken digits beside the project: one to choose on, the other to judge by.

    python -m benchmarks.digits.halves

writes `{domain,heldout,selection,selection_heldout}_manifest.jsonl` beside this file, and `few/…` with the first FEW
clips of each, for a recogniser that takes its time. The digits are joined from single recordings, of which several
clips have parts: halves share no clip, but speakers and single digits, as domain and heldout of different runs do too.
What is chosen on one half is therefore a little flattered on the other.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DIGITS = HERE.parents[2] / "shared" / "speech" / "digits"
FROM_HERE = "../../../shared/speech/digits"
FEW = 60


def main() -> None:
    """Write them."""
    (HERE / "few").mkdir(exist_ok=True)
    for name, chosen in (("domain", "selection"), ("heldout", "selection_heldout")):
        clips = _in_order(DIGITS / f"{name}_manifest.jsonl")
        for half, kept in ((name, clips[::2]), (chosen, clips[1::2])):
            _write(HERE / f"{half}_manifest.jsonl", FROM_HERE, kept)
            _write(HERE / "few" / f"{half}_manifest.jsonl", f"../{FROM_HERE}", kept[:FEW])


def _in_order(manifest: Path) -> list[dict[str, Any]]:
    """The clips in the order of a hash of their names: every second of them is a fair half."""
    clips = [json.loads(line) for line in manifest.read_text().splitlines()]
    return sorted(clips, key=lambda clip: hashlib.sha256(clip["audio_filepath"].encode()).hexdigest())


def _write(path: Path, folder: str, clips: list[dict[str, Any]]) -> None:
    lines = [clip | {"audio_filepath": f"{folder}/{clip['audio_filepath']}"} for clip in clips]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
