"""Somebody else on the GPU: takes memory until its stdin is closed.

    python -m benchmarks.gpu_checks.filler LEAVE_BYTES

Prints one JSON object when it has it: the GPU's `uuid` as PyTorch tells it, `free` and `total` bytes before that.
"""

from __future__ import annotations

import json
import sys

import torch

BLOCK = 256 << 20


def main() -> int:
    """Fill, tell, wait."""
    leave = int(sys.argv[1])
    free, total = torch.cuda.mem_get_info()
    held = []
    while torch.cuda.mem_get_info()[0] - leave > BLOCK:
        held.append(torch.empty(BLOCK, dtype=torch.uint8, device="cuda"))
    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    print(json.dumps({"uuid": uuid, "free": free, "total": total, "held": BLOCK * len(held)}), flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
