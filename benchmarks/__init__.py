"""Measurements, each a module to be run with `python -m benchmarks.…`. They use the tests' kits, which go by names."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
