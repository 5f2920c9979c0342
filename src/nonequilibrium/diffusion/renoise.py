"""Back and forth: reverse steps taken again from a state to which the step's noise was added anew
(Lugmayr et al. 2022).

Replacement sets the known pixels of x^{t−1} beside unknown ones that were drawn without them. A
forward step q(x^t|x^{t−1}) and the reverse step after it mix the two: the unknown pixels of the
second x^{t−1} have seen the known ones of the first. It is cheap, needs no derivative, and is not
exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor, Kernel, Reverse
from nonequilibrium.errors import ParameterError


@torch.no_grad()
def renoised(
    kernel: Kernel,
    reverse: Reverse,
    shape: Sequence[int],
    generator: torch.Generator,
    r: Factor,
    times: int,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Samples of x^0, (n, event), as ``sampling.sample`` with a factor r, each step t ≥ 2 gone back
    and forth ``times`` more times.

    shape: (n, event). With times = 0 the draws are those of ``sampling.sample``. Raises ParameterError.
    """
    if not (isinstance(times, int) and times >= 0):
        raise ParameterError(f"times is {times!r}; it must be a whole number of at least 0")
    p: Any = kernel.stationary(shape, dtype)
    x = kernel.sample(r(kernel, p, None, kernel.T + 1), generator)
    for t in range(kernel.T, 0, -1):
        for again in range(times + 1 if t > 1 else 1):
            if again:
                x = kernel.sample(kernel.q_step(x, t), generator)
            p = reverse(x, t) if t > 1 else kernel.p_edge(x)
            x = kernel.sample(r(kernel, p, x, t), generator)
    return x
