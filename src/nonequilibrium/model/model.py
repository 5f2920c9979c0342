"""What training, measuring and storing ask of a model, whatever its data and its network."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Generator, Tensor, nn

from nonequilibrium.diffusion.chain import Kernel, Reverse
from nonequilibrium.settings import completed
from nonequilibrium.training.fit import Ascent, Watch


class Model(nn.Module):
    """All that training changes: the schedule, learned or fixed, and ``network(kernel, xt, t)``, of
    a kind whose ``defaults`` join the model's; settings are kept as ``params``.
    """

    defaults: Mapping[str, Any]
    network: Any
    kernel: Callable[[], Kernel]  # of the schedule as it is now, differentiable where β is learned
    groups: Callable[[], list[dict]]  # of parameters for the optimiser, each with its ``lr``
    objective: Callable[[Generator], Tensor]  # an unbiased draw of what training maximises, nats

    def __init__(self, network: Any, settings: Mapping[str, Any]):
        super().__init__()
        self.params = completed({**self.defaults, **network.defaults}, settings)
        self.sizes = {name: getattr(self.params, name) for name in network.defaults}

    def reverse(self, kernel: Kernel) -> Reverse[Any]:
        """p(x^{t−1}|x^t) as a function of (x^t, t)."""
        return partial(self.network, kernel)

    def fit_options(self) -> dict[str, Any]:
        """The ``ascent`` and the ``watch`` of ``training.fit``."""
        return {"ascent": Ascent(), "watch": Watch()}

    def finish(self) -> None:
        """What remains to be done after training."""

    def stored(self) -> dict[str, Tensor]:
        """The state as it is written to disk."""
        return self.state_dict()
