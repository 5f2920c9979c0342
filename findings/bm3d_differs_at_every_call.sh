#!/bin/sh
# bm3d 4.0.3 with numpy 2.4.6. One array denoised again and again in one process, without a random
# number in sight, gives results that differ in the sixth digit: the package's threads add the
# blocks' estimates in the order in which they end. With a profile of num_threads = 1 all calls give the same
# bytes.
# Whoever compares runs byte by byte, or counts pixels that round the other way, needs that profile.
#
# Output seen: "threads as they are: 12 different results in 12 calls" (the first number varies, and
# is 1 on one core), and "one thread: 1 different results in 12 calls".
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q bm3d==4.0.3 numpy==2.4.6 2> /dev/null
"$folder/env/bin/python" - <<'P'
import os

import numpy as np
from bm3d import BM3DProfile, bm3d

random = np.random.default_rng(0)
noisy = np.kron(random.random((8, 8)), np.ones((8, 8))) + 0.2 * random.standard_normal((64, 64))


def results(threads=None):
    profile = BM3DProfile()
    if threads is not None:
        profile.num_threads = threads
    return len({bm3d(noisy, 0.2, profile).tobytes() for _ in range(12)})


several, one = results(), results(threads=1)
print(f"threads as they are: {several} different results in 12 calls")
print(f"one thread: {one} different results in 12 calls")
if one != 1 or (several == 1 and os.cpu_count() > 1):
    raise SystemExit("the behaviour has changed")
P
