"""The fast chain of bits against the general one."""

import pytest
import torch

from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.network.bits import BitChain
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load


@pytest.fixture(scope="module")
def model():
    """The heartbeat's model, T = 60, whose readouts are random numbers of some size in place of
    trained ones.
    """
    model = EXPERIMENTS["heartbeat"].model(**vars(load("heartbeat", {"n_steps": 60})))
    model.finish()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (model.network.readout.weight, model.network.readout.bias):
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return model


def bits(n, seed):
    return torch.randint(0, 2, (n, 20), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_rates_are_those_of_the_network_at_every_step(model):
    kernel, x = model.kernel(), bits(200, 1)
    chain, reverse = BitChain(kernel, model.network), model.reverse(kernel)
    for t in range(2, kernel.T + 1):
        assert torch.allclose(
            chain.rate(x.float(), t).double(), reverse(x.double(), t).rate, rtol=1e-4, atol=1e-6
        )


@torch.no_grad()
def test_samples_have_the_law_of_the_general_chain(model):
    kernel, n = model.kernel(), 4000
    ours = BitChain(kernel, model.network).sample(n, 20, torch.Generator().manual_seed(2))
    theirs = sample(
        kernel,
        model.reverse(kernel),
        (n, 20),
        torch.Generator().manual_seed(3),
        dtype=torch.float32,
    )
    assert ((ours == 0) | (ours == 1)).all()
    for statistic in (lambda x: x, lambda x: x * x.roll(1, 1), lambda x: x * x.roll(5, 1)):
        a, b = statistic(ours), statistic(theirs)
        error = ((a.var(0) + b.var(0)) / n).sqrt() + 1e-9
        assert (((a.mean(0) - b.mean(0)) / error).abs() < 5).all()
    assert ours.mean(0).std() > 0.01, "the readouts make bits differ, so that the comparison is one"
