"""A few evaluations beside a cheap reference: the mean of all images, with an error that covers."""

import math

import numpy as np
import pytest
import torch

from nonequilibrium import adapters
from nonequilibrium.model.weights import load_weights
from replication.files import ROOT

N, BETAS = 100, np.linspace(0.01, 0.6, 12)
ALPHA_BAR = torch.from_numpy(np.cumprod(1 - BETAS))


def population():
    """Images of very different contrast, most of them dull."""
    random = torch.Generator().manual_seed(3)
    contrast = 0.05 + 0.4 * torch.rand(N, 1, 1, 1, generator=random) ** 3
    x = contrast * torch.randn(N, 1, 4, 4, generator=random)
    return ((x + 1) * 127.5).round().clamp(0, 255).byte()


def denoiser(spread, tilt=0.0):
    """Estimates of x^0, wrong in the way that differs between the two models."""

    def network(x, s):
        a = ALPHA_BAR[s].reshape(-1, 1, 1, 1).to(x)
        x0 = spread * a.sqrt() / (spread * a + 1 - a) * x
        return x0 + tilt * torch.tanh(3 * x0) * (1 - a)

    return adapters.from_function(network, BETAS, predicts="x0")


MODEL, CHEAP = denoiser(0.03, 0.1), denoiser(0.05)


@pytest.fixture(scope="module", params=["levels", "fixed"])
def truth(request):
    """The last step, and the mean over the population by all steps and many draws."""
    options = {"replicates": 60, "block": N, "last_step": request.param}
    cost = adapters.bits_per_dim(MODEL, population(), None, **options)
    assert cost.mc_se < 0.02
    return request.param, cost.bits_per_dim


@pytest.mark.parametrize("reference", [CHEAP, "gaussian"])
def test_the_stated_error_covers_both_phases(reference, truth):
    """An error of one phase alone would cover far fewer repeats."""
    last_step, wanted = truth
    options = {"reference": reference, "last_step": last_step, "evaluations": 60, "block": N}
    repeats = [
        adapters.bits_per_dim(MODEL, population(), 2, seed=seed, **options) for seed in range(100)
    ]
    off = np.array([cost.bits_per_dim for cost in repeats]) - wanted
    stated = np.array([cost.mc_se for cost in repeats])
    assert 0.90 <= np.mean(np.abs(off) < 2 * stated) <= 1
    assert abs(off.mean()) < 4 * off.std() / math.sqrt(len(off)) + 0.002, "no bias"
    assert np.sqrt(np.mean(stated**2)) < 1.5 * off.std(), "not far too wide either"


def test_a_model_beside_itself_leaves_only_the_first_phase():
    images = population()
    same = adapters.bits_per_dim(MODEL, images, 4, reference=MODEL, last_step="fixed")
    other = adapters.bits_per_dim(MODEL, images, 4, reference=CHEAP, last_step="fixed")
    plain = adapters.bits_per_dim(MODEL, images, 2, last_step="fixed")  # 4 draws per image
    assert same.mc_se < other.mc_se and same.mc_se < 1.1 * plain.mc_se
    assert float(same.per_example.mean()) == pytest.approx(same.bits_per_dim)
    correlation = torch.corrcoef(torch.stack([same.per_example, plain.per_example]))[0, 1]
    assert correlation > 0.8


def test_the_model_is_evaluated_as_often_as_asked_for():
    seen = []

    def network(x, s):
        seen.append(len(x))
        return 0 * x

    model = adapters.from_function(network, BETAS)
    for evaluations in (40, 300):  # fewer and more than there are images
        seen.clear()
        adapters.bits_per_dim(model, population(), 2, reference=CHEAP, evaluations=evaluations)
        assert sum(seen) == evaluations


def test_a_reference_of_another_chain_and_scale_helps():
    """Weights of this package, K of noisy pixels, beside a model of another schedule."""
    images = torch.randint(0, 2, (6, 1, 28, 28), dtype=torch.uint8) * 255
    ours = load_weights(ROOT / "models" / "mnist_conv.safetensors")
    step = adapters.fewer(ours, 10)
    beside = adapters.bits_per_dim(step, images, 2, reference=ours, evaluations=20)
    plain = adapters.bits_per_dim(step, images, 1)
    assert abs(beside.bits_per_dim - plain.bits_per_dim) < 4 * math.hypot(beside.mc_se, plain.mc_se)
    with pytest.raises(adapters.AdapterError, match="'fixed' for a model without a step to levels"):
        adapters.bits_per_dim(ours, images, last_step="levels")
    for options in ({"evaluations": 3}, {"draws": 1}, {"draws": None}):
        with pytest.raises(ValueError, match="evaluations is 3|draws is"):
            adapters.bits_per_dim(step, images, reference=ours, **options)
