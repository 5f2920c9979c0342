"""Ways to make the network's own work on a CPU faster that were tried: compiled code, images in
rows, fused Adam.

Each is beside what the package does: networks as they are written, a pixel after the other in
memory, Adam as torch has it by default.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.steps import BATCH, bare, trained
from benchmarks.timing import Settings, in_turn
from nonequilibrium.model.images import ImageModel

COSTLY = {"cifar10": "features", "cifar10_unet": "maps"}  # the method that is compiled
IMAGES = {"cifar10": BATCH, "cifar10_unet": BATCH // 4}


def gradient(model: ImageModel, experiment: str) -> Callable[[], None]:
    """The network and its gradient on one batch."""
    with torch.no_grad():
        z = bare(model, model.kernel())
    random, n = torch.Generator().manual_seed(0), IMAGES[experiment]
    x = torch.randn(n, *model.network.shape, generator=random)
    t = torch.randint(2, model.params.n_steps + 1, (n,), generator=random)

    def work() -> None:
        model.network.zero_grad()
        sum(part.square().mean() for part in z(x, t)).backward()

    return work


def compiled(experiment: str) -> ImageModel:
    model = trained(experiment)
    name = COSTLY[experiment]
    model.network.__dict__[name] = torch.compile(getattr(model.network, name))
    return model


def in_rows(experiment: str) -> ImageModel:
    """Every convolution's input and weights a map after the other, as torch has them unless told
    otherwise.
    """
    model = trained(experiment)
    for layer in model.network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
    return model


def adam(experiment: str, **how) -> Callable[[], None]:
    """Ten steps of Adam on a gradient that stays."""
    network = copy.deepcopy(trained(experiment).network)
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    ascent = torch.optim.Adam(network.parameters(), lr=1e-4, **how)

    def work() -> None:
        for _ in range(10):
            ascent.step()

    return work


def of(experiment: str, its: Settings) -> Iterator[tuple[str, dict]]:
    """(what of, {way: seconds, ratio}), and how many seconds the first compiled gradient took."""
    ways: dict[str, Callable[[], object]] = {"as it is": gradient(trained(experiment), experiment)}
    ways["a map after the other"] = gradient(in_rows(experiment), experiment)
    ways["compiled"] = first = gradient(compiled(experiment), experiment)
    began = time.perf_counter()
    first()
    took = time.perf_counter() - began
    found = in_turn(ways, its, 2 if its.small else 5)
    found["compiled"]["first"] = took
    yield "the network and its gradient", found
    steps = {"as it is": adam(experiment), "fused": adam(experiment, fused=True)}
    yield "ten steps of Adam", in_turn(steps, its, 2 if its.small else 5)


def measured(its: Settings) -> dict:
    return {name: dict(of(name, its)) for name in (["cifar10"] if its.small else COSTLY)}
