"""What the model of an experiment has, whatever its data and its network: training, measuring and
storing ask for nothing else.

A model is everything that training changes: the schedule (learned or fixed) and the network. Its
kernel is built from the schedule when it is needed, so that gradients reach a learned β.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nonequilibrium.diffusion.chain import Kernel, Reverse
from nonequilibrium.training.fit import Ascent, Watch


class Model(nn.Module, ABC):
    """Built from settings by name, ``params``. network: called as ``network(kernel, xt, t)``."""

    params: Any  # the settings by name
    network: nn.Module

    @abstractmethod
    def kernel(self) -> Kernel:
        """The forward chain of the schedule as it is now, differentiable where β is learned."""

    @abstractmethod
    def groups(self) -> list[dict]:
        """Parameter groups for the optimiser, each with its own ``lr``."""

    @abstractmethod
    def objective(self, generator: torch.Generator) -> Tensor:
        """One unbiased draw of what training maximises, nats, a differentiable scalar: K, or terms
        of K that count unequally.
        """

    def reverse(self, kernel: Kernel) -> Reverse[Any]:
        """p(x^{t−1}|x^t) as a function of (x^t, t)."""
        return partial(self.network, kernel)

    def fit_options(self) -> dict[str, Any]:
        """How ``training.fit`` is to train it: its ``ascent`` and its ``watch``."""
        return {"ascent": Ascent(), "watch": Watch()}

    def finish(self) -> None:
        """What remains to be done after training: nothing, as a rule."""

    def stored(self) -> dict[str, Tensor]:
        """The state as it is written to disk."""
        return self.state_dict()
