"""The tests of lab: `python3 -m unittest discover perf/lab`. They start and measure nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
