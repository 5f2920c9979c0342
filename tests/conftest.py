"""Tests are quiet wherever they are run from: progress bars would stand among the messages that
they look at.
"""

import os

os.environ.setdefault("NONEQUILIBRIUM_QUIET", "1")
