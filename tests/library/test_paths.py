"""Gaussian paths by name, conditions, maps and fewer steps: exact answers for Gaussian data."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from nonequilibrium import adapters
from nonequilibrium.bound.bound import kl_terms
from nonequilibrium.diffusion.sampling import sample
from replication.files import ROOT

MEAN, VAR = 0.1, 0.04
SIGMAS = np.geomspace(0.002, 80, 200)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pictures(n, mean=MEAN, seed=1):
    x = mean + math.sqrt(VAR) * torch.randn(n, 1, 2, 2, generator=seeded(seed), dtype=torch.float64)
    return ((x + 1) * 127.5).round().clamp(0, 255).byte()


def entropy(level, mean=MEAN):
    """The true cost of these levels, bits/dim of each image."""
    edges = (np.arange(257) - 0.5) / 127.5 - 1
    edges[[0, -1]] = -np.inf, np.inf
    p = np.diff(norm.cdf(edges, mean, math.sqrt(VAR)))
    return torch.from_numpy(-np.log2(p))[level.long()].flatten(1).mean(1)


def denoised(x, a, sigma, mean=MEAN):
    """E[x^0|x = a x^0 + σε]."""
    a, sigma = (torch.as_tensor(v).reshape(-1, 1, 1, 1) for v in (a, sigma))
    return mean + VAR * a / (VAR * a**2 + sigma**2) * (x - a * mean)


def of_edm(x, sigma):
    return denoised(x, torch.ones_like(sigma), sigma)


def of_ve(x, sigma):
    return (of_edm(x, sigma) - x) / sigma.reshape(-1, 1, 1, 1) ** 2


def vp(time):
    a = torch.exp(-torch.as_tensor(time) / 2)
    return a, (1 - a**2).sqrt()


def of_score(x, time):
    a, sigma = vp(time)
    return (a.reshape(-1, 1, 1, 1) * denoised(x, a, sigma) - x) / sigma.reshape(-1, 1, 1, 1) ** 2


def of_flow(x, time):
    """Data at 1: v = x^0 − ε."""
    wide = time.reshape(-1, 1, 1, 1)
    x0 = denoised(x, time, 1 - time)
    return x0 - (x - wide * x0) / (1 - wide)


LEVELS = {  # the same levels in the time of each family
    "edm": lambda: adapters.from_edm(of_edm, SIGMAS),
    "ve": lambda: adapters.from_ve(of_ve, SIGMAS[::-1].copy()),
    "score": lambda: adapters.from_score(of_score, TIMES, *vp(TIMES)),
    "flow": lambda: adapters.from_flow(of_flow, 1 / (1 + SIGMAS)),
    "flow from the data": lambda: adapters.from_flow(
        lambda x, time: -of_flow(x, 1 - time), SIGMAS / (1 + SIGMAS), data_at=0
    ),
}
TIMES = torch.from_numpy(np.log1p(SIGMAS**2))


@pytest.mark.parametrize("name", LEVELS)
def test_every_path_has_the_cost_of_the_chain_that_it_is(name):
    """The loss of step t is half of SNR_{t−1} − SNR_t times the variance of x^0 given x^t."""
    kernel, _ = model = LEVELS[name]()
    snr = 1 / torch.from_numpy(SIGMAS) ** 2
    assert torch.allclose(kernel.alpha_bar[1:], snr / (1 + snr), rtol=1e-9)
    level = pictures(1000)
    cost = adapters.bits_per_dim(model, level, draws=None, block=1000)
    spread = VAR / (VAR * snr + 1)  # of x^0 given x^t
    wanted = 0.5 * (snr[:-1] - snr[1:]) * spread[1:] / math.log(2)
    errors = cost.matrix[:, 2:].std(0) / math.sqrt(len(level))
    assert ((cost.by_step[2:] - wanted).abs() < 5 * errors + 2e-5).all()
    ends = 0.5 * math.log2(VAR / SIGMAS[0] ** 2)  # the limit of many levels
    assert float(wanted.sum()) == pytest.approx(ends, rel=0.05) and float(wanted.sum()) > ends


def test_the_cost_falls_to_the_entropy_and_the_stated_change_is_that_of_twice_as_many_levels():
    level, own = pictures(400), entropy(pictures(400))
    costs = {}
    for n in (25, 49, 97, 500):
        model = adapters.from_edm(of_edm, np.geomspace(0.02, 80, n))
        costs[n] = adapters.bits_per_dim(model, level, draws=None, block=400)
    for few, many in ((25, 49), (49, 97)):
        change, se = costs[few].refined
        real = (costs[many].per_example - costs[few].per_example).mean()
        assert change == pytest.approx(float(real), rel=0.35) and change < 0 and se < 0.1
        assert f"twice as many levels: {change:+.4f}" in str(costs[few])
    excess = costs[500].per_example - own
    error = float(excess.std()) / math.sqrt(len(excess))
    left = 2 * costs[500].refined[0]  # half, a quarter … of it would follow
    assert abs(float(excess.mean()) + left) < 4 * error and error < 0.02


def test_the_first_variance_is_that_of_ho_and_does_not_vanish_on_fine_chains():
    ho = adapters.from_function(lambda x, s: x, np.linspace(1e-4, 0.02, 1000))
    assert ho.reverse.small[1] == ho.kernel.posterior_var[2]
    firsts = []
    for n in (300, 1000, 3000):
        kernel, reverse = adapters.from_edm(of_edm, np.geomspace(0.002, 80, n))
        assert float(reverse.small[1]) == pytest.approx(float(kernel.one_minus_alpha_bar[1]))
        cost = adapters.bits_per_dim((kernel, reverse), pictures(200), draws=1)
        firsts.append(float(cost.by_step[1]))
    assert max(firsts) - min(firsts) < 0.01


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: adapters.from_edm(of_edm, [0.1, 0.1]), "no schedule"),
        (lambda: adapters.from_edm(of_edm, [0.0, 0.1]), "the least noise is 0"),
        (lambda: adapters.from_edm(5, SIGMAS), "the model is a int"),
        (lambda: adapters.from_flow(of_flow, [0.5, 1.0]), "times are 0.5 to 1"),
        (lambda: adapters.from_flow(of_flow, [0.5, 0.9], data_at=2), "data_at is 2"),
        (lambda: adapters.from_score(of_score, [1, 2], [0, 1], [1, 1]), "signal is from 0"),
        (lambda: adapters.from_score(of_score, [1, 2, 3], [1, 1], [1, 2]), "lengths|of one length"),
    ],
)
def test_levels_that_make_no_chain_are_refused(make, message):
    with pytest.raises(adapters.AdapterError, match=message):
        make()


def test_a_learned_variance_and_a_wrong_answer_of_a_path():
    """The second half of the channels is the variance's; a score is not taken for x^0."""
    levels = np.geomspace(0.02, 80, 60)

    def both(x, sigma):
        return torch.cat([of_ve(x, sigma), torch.ones_like(x)], 1)  # the larger variance, β

    learned = adapters.from_ve(both, levels, variance="learned_range")
    large = adapters.from_ve(of_ve, levels, variance="fixed_large")
    costs = [adapters.bits_per_dim(model, pictures(30), None) for model in (learned, large)]
    assert torch.allclose(costs[0].matrix[:, 2:], costs[1].matrix[:, 2:], rtol=1e-4)
    three = pictures(10).expand(-1, 3, -1, -1)
    for network in (lambda x, s: x[:, :1], both, lambda x, s: None):
        with pytest.raises(adapters.AdapterError, match="must be a real tensor|NoneType"):
            adapters.bits_per_dim(adapters.from_ve(network, levels), three)


def test_a_flow_may_end_in_noise_alone():
    model = adapters.from_flow(of_flow, np.linspace(0.99, 0, 50))
    assert math.isfinite(adapters.bits_per_dim(model, pictures(20)).bits_per_dim)


# ---------------------------------------------------------------- conditions


class OfClass(nn.Module):
    """D(x; σ) of data whose mean is that of the image's class."""

    def forward(self, x, sigma, label=None, mean=None):
        mean = torch.tensor([-0.4, 0.4], dtype=x.dtype)[label] if mean is None else mean
        return denoised(x, torch.ones_like(sigma), sigma, mean.reshape(-1, 1, 1, 1).to(x.dtype))


@pytest.mark.parametrize("draws", [None, 10])
def test_what_is_given_reaches_the_network_with_its_image(draws):
    labels = torch.arange(100) % 2
    means = torch.tensor([-0.4, 0.4])[labels]
    level = torch.stack([pictures(1, float(m), seed)[0] for seed, m in enumerate(means, start=100)])
    model = adapters.from_edm(OfClass(), np.geomspace(0.02, 80, 100))
    cost = adapters.bits_per_dim(model, level, draws, given=labels, block=37)
    own = torch.cat([entropy(x[None], float(m)) for x, m in zip(level, means, strict=True)])
    excess = float((cost.per_example - own).mean()) + 2 * cost.refined[0]
    assert abs(excess) < 4 * cost.mc_se < 0.5
    same = adapters.bits_per_dim(model, level, draws, given={"mean": means}, block=37)
    assert same.bits_per_dim == pytest.approx(cost.bits_per_dim, rel=1e-5)
    wrong = adapters.bits_per_dim(model, level, draws, given=1 - labels, block=37)
    assert wrong.bits_per_dim > cost.bits_per_dim + 1
    with pytest.raises(adapters.AdapterError, match="given has shape .1,.*one entry per image"):
        adapters.bits_per_dim(model, level, given=labels[:1])
    for text in (["one"] * len(level), {"mean": ["one"] * len(level)}, [None] * len(level), "one"):
        with pytest.raises(adapters.AdapterError, match="it must be numbers, one entry per image"):
            adapters.bits_per_dim(model, level, given=text)
    with pytest.raises(adapters.AdapterError, match="the step alone"):
        adapters.bits_per_dim(model, level)


# ---------------------------------------------------------------- maps


@pytest.mark.parametrize("last_step", ["levels", "fixed"])
@pytest.mark.parametrize("draws", [None, 4])
def test_a_map_has_the_bits_of_every_value_and_they_sum_to_the_image_s(last_step, draws):
    level = pictures(50)
    level[:, 0, 0, 0] = 250  # far from the mean: it costs more than the others
    model = adapters.from_edm(of_edm, SIGMAS)
    cost = adapters.bits_per_dim(model, level, draws, last_step=last_step)
    assert cost.map.shape == level.shape
    assert torch.allclose(cost.map.flatten(1).mean(1).double(), cost.per_example, rtol=1e-4)
    assert cost.map[:, 0, 0, 0].mean() > cost.map[:, 0, 1, 1].mean() + 3


# ---------------------------------------------------------------- fewer steps


def vp_noise(x, s, alpha_bar):
    a = alpha_bar[s].to(x.dtype)
    x0 = denoised(x, a.sqrt(), (1 - a).sqrt())
    return (x - a.sqrt().reshape(-1, 1, 1, 1) * x0) / (1 - a).sqrt().reshape(-1, 1, 1, 1)


def test_a_chain_of_some_steps_is_that_of_a_respaced_sampler():
    """By the second formulas of improved-diffusion: β of the ratio of the kept ᾱ."""
    beta = np.linspace(1e-4, 0.05, 200)
    alpha_bar = torch.from_numpy(np.cumprod(1 - beta))
    asked = []

    def network(x, s):
        asked.extend(s.tolist())
        return vp_noise(x, s, alpha_bar)

    whole = adapters.from_function(network, beta)
    for kept, steps in ((9, None), (None, [1, 21, 41, 61, 181])):
        kernel, reverse = adapters.fewer(whole, kept or steps)
        times = steps or [1, 26, 51, 76, 100, 125, 150, 175, 200]
        chosen = alpha_bar[torch.tensor(times) - 1]
        assert torch.allclose(kernel.alpha_bar[1:], chosen, rtol=1e-9)
        asked.clear()
        cost = adapters.bits_per_dim((kernel, reverse), pictures(100), draws=None)
        assert set(asked) == {t - 1 for t in times}
        snr = chosen / (1 - chosen)
        wanted = 0.5 * (snr[:-1] - snr[1:]) * (VAR / (VAR * snr + 1))[1:] / math.log(2)
        assert torch.allclose(cost.by_step[2:], wanted, rtol=0.25)
    for wrong in ([5], [0, 3], [3, 3], [1, 201]):
        with pytest.raises(adapters.AdapterError, match="the steps to keep are"):
            adapters.fewer(whole, wrong)


def test_fewer_steps_of_a_chain_that_ends_without_signal_cost_the_limit():
    beta, costs = torch.linspace(0.01, 0.35, 10, dtype=torch.float64), []
    for beta[-1] in (1 - 1e-9, 1.0):
        whole = adapters.from_function(lambda x, s: 0.1 * x, beta, predicts="velocity")
        own = adapters.from_function(lambda x, s: 0.1 * x, beta, predicts="mean")
        for model in (whole, own):
            few = adapters.fewer(model, 5)
            costs.append(adapters.bits_per_dim(few, pictures(4), draws=None).bits_per_dim)
    assert costs[:2] == pytest.approx(costs[2:], rel=1e-5)


def test_a_model_that_gives_its_own_mean_and_variance_keeps_both_in_fewer_steps():
    beta = np.linspace(1e-4, 0.05, 60)
    kernel, reverse = adapters.from_function(
        lambda x, s: vp_noise(x, s, torch.from_numpy(np.cumprod(1 - beta))), beta
    )

    def both(x, s, shift=0):
        p = reverse(x, s + 1)
        return torch.cat([p.mean, p.var.expand_as(p.mean)], 1)

    own = adapters.from_function(both, beta, predicts="mean", variance="learned")
    x0, t = torch.zeros(6, 1, 2, 2), torch.arange(2, 8)
    noise = torch.randn(x0.shape, generator=seeded(0))
    pair = [kl_terms(*adapters.fewer(m, 7), x0, t, noise=noise) for m in (own, (kernel, reverse))]
    assert torch.allclose(*pair, rtol=1e-3)


def test_samples_of_a_path_are_those_of_the_data():
    kernel, reverse = adapters.from_edm(of_edm, np.geomspace(0.002, 80, 150))
    x = sample(kernel, reverse, (500, 1, 2, 2), seeded(0))
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(x.var()) == pytest.approx(VAR, rel=0.15)


# ---------------------------------------------------------------- several processes

SHARED = """
import numpy as np, torch
from nonequilibrium import adapters
from nonequilibrium.distributed import group, rank
images = torch.randint(0, 256, (12, 1, 2, 2), generator=torch.Generator().manual_seed(0))
model = adapters.from_ve(lambda x, s: -x / (1 + s.reshape(-1, 1, 1, 1)), np.geomspace(0.01, 9, 9))
with group():
    cost = adapters.bits_per_dim(model, images, 3, block=5)
    if rank() == 0:
        print(repr(cost.bits_per_dim), repr(cost.mc_se), f"{float(cost.map.sum()):.3f}")
"""


def test_two_processes_have_the_digits_of_one(tmp_path, capsys):
    program = tmp_path / "shared.py"
    program.write_text(SHARED)
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", program]
    both = subprocess.run(words, env=environment, capture_output=True, text=True)
    exec(SHARED, {})
    alone = capsys.readouterr().out
    assert alone and alone == both.stdout, both.stderr
