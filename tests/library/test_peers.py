"""Models and likelihoods of other people: score networks of galaxies that nobody here trained,
and three programs beside ours where the answer is known.

Each part is skipped where its package is absent; `pip install --no-deps galaxygrad==0.1.9
monai==1.6.1 k-diffusion==0.1.1.post1 flow_matching==1.0.10 torchdiffeq==0.2.5` brings all.
"""

import importlib
import importlib.util
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from test_paths import denoised, entropy, of_edm, of_flow, pictures
from torch import nn
from torch.nn import functional as F

from nonequilibrium import adapters
from nonequilibrium.bound.bound import L_null, bits, full_bound
from nonequilibrium.diffusion.sampling import sample

GALAXIES = {"HSC 32": ("hsc_ScoreNet32", 32), "ZTF 32": ("ZTF_ScoreNet32", 32)}


def folder_of(package):
    """Where a package lies, without importing what it needs."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


class Mixer(nn.Module):
    """The score network of galaxygrad, read from the NumPy arrays of its file, in their order."""

    def __init__(self, path, side):
        super().__init__()
        with path.open("rb") as file:

            def array():
                return torch.from_numpy(np.array(np.load(file), dtype=np.float32))

            self.conv_in = [array(), array()]
            self.conv_out = [array(), array()]
            self.blocks = [[array() for _ in range(12)] for _ in range(4)]
            self.norm, self.end = [array(), array()], float(np.load(file))
        self.side = side

    def forward(self, x, time):
        plane = (time / self.end).reshape(-1, 1, 1, 1).expand(len(x), 1, self.side, self.side)
        weight, bias = self.conv_in
        y = F.conv2d(torch.cat([x, plane], 1), weight, bias.flatten(), stride=4).flatten(2)
        for first, b1, second, b2, third, b3, fourth, b4, w1, c1, w2, c2 in self.blocks:
            z = F.layer_norm(y, y.shape[1:], w1, c1)
            y = y + F.linear(F.relu(F.linear(z, first, b1)), second, b2)
            z = F.layer_norm(y.mT, y.mT.shape[1:], w2, c2)
            y = y + F.linear(F.relu(F.linear(z, third, b3)), fourth, b4).mT
        y = F.layer_norm(y, y.shape[1:], *self.norm)
        weight, bias = self.conv_out
        # Their transposed convolution is a correlation: the kernel is flipped, and out comes first.
        weight = weight.transpose(0, 1).flip(2, 3)
        side = self.side // 4
        return F.conv_transpose2d(y.unflatten(2, (side, side)), weight, bias.flatten(), stride=4)


@pytest.mark.parametrize("name", GALAXIES)
def test_a_network_of_galaxies_gives_its_own_samples_few_bits(name):
    """VP with ᾱ = e^−t, t in (0, 10]; K of its samples is far above that of other pictures."""
    ending, side = GALAXIES[name]
    network = Mixer(folder_of("galaxygrad") / f"eqx_{ending}.eqx", side)
    times = torch.from_numpy(np.geomspace(1e-3, 10, 40))
    signal = torch.exp(-times / 2)
    model = adapters.from_score(network, times, signal, (1 - signal**2).sqrt())
    random = torch.Generator().manual_seed(0)
    x = sample(*model, (6, 1, side, side), random, dtype=torch.float32)
    assert torch.isfinite(x).all()
    scrambled = x.flatten(1)[:, torch.randperm(side**2, generator=random)].reshape(x.shape)
    K = {
        kind: full_bound(*model, images, random, block=240)
        for kind, images in (("own", x), ("scrambled", scrambled))
    }
    pixels = side**2
    gain = bits(K["own"].K - float(L_null(model.kernel, x).mean())) / pixels
    assert gain > 0.5, "bits per pixel over noise"
    assert (K["own"].K - K["scrambled"].K) > 10 * (K["own"].se + K["scrambled"].se)


# ---------------------------------------------------------------- 8-bit levels of a Gaussian, whose
# entropy is known


@pytest.fixture(scope="module")
def known():
    level = pictures(300)
    own = entropy(level)
    noise = torch.rand(level.shape, generator=torch.Generator().manual_seed(5)) - 0.5
    return level, own, ((level + noise) / 127.5 - 1).float()


def off(nats, own):
    """Mean and error of bits/dim of these log densities, less the truth."""
    more = math.log2(127.5) - nats.double() / (4 * math.log(2)) - own
    return float(more.mean()), float(more.std()) / math.sqrt(len(more))


def test_the_bound_lies_above_the_truth_by_what_refining_says(known):
    level, own, _ = known
    cost = adapters.bits_per_dim(adapters.from_edm(of_edm, np.geomspace(0.02, 80, 1000)), level)
    gap = float((cost.per_example - own).mean())
    assert abs(gap + 2 * cost.refined[0]) < 4 * cost.mc_se < 0.2


def test_an_ode_of_k_diffusion_agrees(known):
    folder = folder_of("k_diffusion")
    folder_of("torchdiffeq")
    _, own, x = known
    with pytest.MonkeyPatch.context() as patch:
        package = types.ModuleType("k_diffusion")
        package.__path__ = [str(folder)]  # without its models, which need many packages
        utils = types.ModuleType("k_diffusion.utils")
        utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
        package.utils = utils
        for name, module in (("", package), (".utils", utils)):
            patch.setitem(sys.modules, f"k_diffusion{name}", module)
        if importlib.util.find_spec("torchsde") is None:
            patch.setitem(sys.modules, "torchsde", types.ModuleType("torchsde"))
        sampling = importlib.import_module("k_diffusion.sampling")
        nats, _ = sampling.log_likelihood(of_edm, x, 0.02, 80.0)
        patch.delitem(sys.modules, "k_diffusion.sampling", raising=False)
    assert abs(off(nats, own)[0]) < 0.01


def test_an_ode_of_flow_matching_agrees_and_its_euler_steps_do_not(known):
    folder_of("flow_matching")
    solver = importlib.import_module("flow_matching.solver").ODESolver
    _, own, x = known

    class Velocity(nn.Module):
        def forward(self, x, t):
            return of_flow(x, t.expand(len(x)).clamp(max=1 - 1e-3))

    def prior(x):
        return torch.distributions.Normal(0, 1).log_prob(x).flatten(1).sum(1)

    gaps = {}
    for method in ("midpoint", "euler"):
        _, nats = solver(Velocity()).compute_likelihood(x, prior, 0.01, method=method)
        gaps[method] = off(nats, own)[0]
    assert abs(gaps["midpoint"]) < 0.01 < abs(gaps["euler"]) < 0.05


def test_monai_has_our_steps_and_no_variance_at_the_last(known):
    pytest.importorskip("monai")
    inferers = importlib.import_module("monai.inferers")
    networks = importlib.import_module("monai.networks.schedulers")
    level, own, _ = known
    words = {"schedule": "linear_beta", "beta_start": 1e-4, "beta_end": 0.02}
    scheduler = networks.DDPMScheduler(200, clip_sample=False, **words)
    alpha_bar = scheduler.alphas_cumprod

    def noise(x, timesteps, context=None):
        a = alpha_bar[timesteps]
        x0 = denoised(x, a.sqrt(), (1 - a).sqrt())
        a = a.reshape(-1, 1, 1, 1)
        return (x - a.sqrt() * x0) / (1 - a).sqrt()

    torch.manual_seed(0)
    ranges = {"original_input_range": (0, 255), "scaled_input_range": (-1, 1)}
    _, terms = inferers.DiffusionInferer(scheduler).get_likelihood(
        (level / 127.5 - 1).float(),
        noise,
        scheduler,
        save_intermediates=True,
        verbose=False,
        **ranges,
    )
    theirs = bits(torch.stack([term.flatten(1).mean(1) for term in terms], 1))
    cost = adapters.bits_per_dim(adapters.from_function(noise, scheduler.betas), level, 20)
    ours = float(cost.by_step[2:].sum())
    assert float(theirs[:, :-1].sum(1).mean()) == pytest.approx(ours, rel=0.05)
    assert float(theirs[:, -1].mean()) > 5 * float(cost.by_step[1]), "its variance is 1e-20"
    assert float(own.mean()) < cost.bits_per_dim
