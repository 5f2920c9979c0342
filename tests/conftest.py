"""Tests are quiet wherever they are run from, and those of both folders find the second
implementations in ``tests/library``.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("NONEQUILIBRIUM_QUIET", "1")
sys.path.append(str(Path(__file__).parent / "library"))
