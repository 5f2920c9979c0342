"""Other people's models: is their bound the number that they mean?"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import log_ndtr, logsumexp
from scipy.stats import norm
from torch import nn

from nonequilibrium import adapters
from nonequilibrium.adapters.checks import as_levels
from nonequilibrium.adapters.work import Options, Work
from nonequilibrium.bound.bound import bits, bits_per_dim, full_bound, kl_terms, sampled_bound
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import Normal
from nonequilibrium.diffusion.sampling import sample, sample_each
from nonequilibrium.errors import BoundError
from nonequilibrium.model.weights import load_weights
from replication.files import ROOT

BETAS = np.linspace(1e-4, 0.25, 40)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- Gaussian data, for which the best
# predictions are known

MEAN, VAR = 0.1, 0.04  # within [−1, 1] but for one point in hundreds of thousands


class Best:
    """What is best to predict for data N(MEAN, VAR), by its kind; with ``range``, the best variance
    as a learned range too.
    """

    def __init__(self, predicts, learned=False):
        alpha_bar = torch.cumprod(1 - torch.from_numpy(BETAS), 0)
        self.alpha_bar, self.predicts, self.learned = alpha_bar, predicts, learned
        before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
        beta = 1 - alpha_bar / before
        self.small, self.large = beta * (1 - before) / (1 - alpha_bar), beta
        self.spread = (
            VAR * (1 - alpha_bar) / (VAR * alpha_bar + 1 - alpha_bar)
        )  # variance of x^0 given x^t
        self.on_x0 = before.sqrt() * beta / (1 - alpha_bar)
        self.var = (
            self.small + self.on_x0**2 * self.spread
        )  # of x^{t−1} given x^t: the best variance
        self.least = torch.cat([self.small[1:2], self.small[1:]])  # the posterior has none at s = 0

    def __call__(self, x, s):
        a = self.alpha_bar[s].reshape(-1, *[1] * (x.dim() - 1))
        x0 = MEAN + VAR * a.sqrt() / (VAR * a + 1 - a) * (x - a.sqrt() * MEAN)
        noise = (x - a.sqrt() * x0) / (1 - a).sqrt()
        out = {
            "x0": x0,
            "noise": noise,
            "velocity": a.sqrt() * noise - (1 - a).sqrt() * x0,
            "score": -(x - a.sqrt() * MEAN) / (VAR * a + 1 - a),
        }[self.predicts]
        if not self.learned:
            return out
        share = (self.var.log() - self.least.log()) / (self.large.log() - self.least.log())
        return torch.cat([out, (2 * share - 1)[s].reshape(a.shape).expand_as(out)], 1)


def gaussian_data(n, *shape):
    return MEAN + math.sqrt(VAR) * torch.randn(n, *shape, generator=seeded(1), dtype=torch.float64)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_every_parameterisation_of_the_best_prediction_gives_the_closed_form(variance):
    """E KL_t is that of two variances and, in the mean, of what x^t leaves open about x^0."""
    x0, best, bounds = gaussian_data(4000, 2), Best("x0"), {}
    for predicts in ("x0", "noise", "velocity", "score"):
        kernel, reverse = adapters.from_function(
            Best(predicts), BETAS, predicts=predicts, variance=variance, event_dim=1
        )
        bounds[predicts] = full_bound(kernel, reverse, x0, seeded(2))
    for other in bounds.values():
        assert torch.allclose(other.kl, bounds["x0"].kl, rtol=1e-6, atol=1e-12)
    model = best.small if variance == "fixed_small" else best.large
    ratio = best.small / model
    exact = 2 * 0.5 * (ratio - 1 - ratio.log() + best.on_x0**2 * best.spread / model)
    found = bounds["noise"].kl[:, 2:]
    errors = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - exact[1:]).abs() < 5 * errors).all() and errors.max() < 0.05 * exact[
        1:
    ].max()


def test_a_learned_range_reaches_the_best_variance_and_with_it_the_known_gap():
    x0 = gaussian_data(20_000, 2)
    kernel, reverse = adapters.from_function(
        Best("noise", learned=True),
        alphas_cumprod=np.cumprod(1 - BETAS),
        variance="learned_range",
        event_dim=1,
    )
    bound = full_bound(kernel, reverse, x0, seeded(3))
    log_density = norm.logpdf(x0, MEAN, math.sqrt(VAR)).sum(1)

    def from_pi(t):
        m, v = (
            MEAN * kernel.alpha_bar[t].sqrt(),
            VAR * kernel.alpha_bar[t] + kernel.one_minus_alpha_bar[t],
        )
        return float(v + m**2 - 1 - torch.log(torch.as_tensor(v)))

    gap = from_pi(kernel.T) + from_pi(0) - from_pi(1)  # both ends of the chain, and nothing else
    difference = torch.from_numpy(log_density) - bound.per_example
    assert abs(difference.mean() - gap) < 4 * difference.std() / math.sqrt(len(x0))


def test_rounded_gaussian_data_cost_their_entropy_and_hardly_more():
    """The levels' true probabilities are known, so no bound may lie below their entropy."""
    levels = 256
    level = ((gaussian_data(1500, 1, 2, 2) + 1) * 127.5).round().clamp(0, 255)
    edges = (np.arange(levels + 1) - 0.5) / 127.5 - 1
    edges[[0, -1]] = -np.inf, np.inf
    p = np.diff(norm.cdf(edges, MEAN, math.sqrt(VAR)))
    own = torch.from_numpy(-np.log2(p))[level.long()].flatten(1).mean(1)  # bits/dim of each image
    model = adapters.from_function(Best("noise", learned=True), BETAS, variance="learned_range")
    cost = adapters.bits_per_dim(
        model, level.to(torch.uint8), draws=None, replicates=16, block=1500
    )
    excess = cost.per_example - own
    # Nothing else is lost but L_T. The steps are exact for the data before rounding, and a level is
    # narrower than the noise of x^1.
    se = float(excess.std()) / math.sqrt(len(excess))
    assert abs(float(excess.mean()) - cost.rest) < 4 * se and se < 0.006


# ---------------------------------------------------------------- a second implementation, in NumPy
# from the equations

SHAPE = (2, 3, 3)


class Random(nn.Module):
    """A random network of x^t and s, float64, with or without a second half."""

    def __init__(self, twice):
        super().__init__()
        d, random = math.prod(SHAPE), seeded(11)
        self.first = nn.Parameter(
            0.3 * torch.randn(d + 1, 20, generator=random, dtype=torch.float64)
        )
        self.second = nn.Parameter(
            0.3 * torch.randn(20, d * (2 if twice else 1), generator=random, dtype=torch.float64)
        )

    def forward(self, x, s):
        hidden = torch.tanh(torch.cat([x.flatten(1), s[:, None].double() / 10], 1) @ self.first)
        return (hidden @ self.second).reshape(len(x), -1, *SHAPE[1:])


class InNumPy:
    """The variational bound of Ho et al. (2020) and Nichol & Dhariwal (2021), steps s = 0..T−1, as
    their papers write it.
    """

    def __init__(self, network, betas, predicts, variance, clip):
        self.w1, self.w2 = (w.detach().numpy() for w in (network.first, network.second))
        self.betas, self.predicts, self.variance, self.clip = betas, predicts, variance, clip
        self.bar = np.cumprod(1 - betas)
        self.bar_before = np.append(1.0, self.bar[:-1])
        self.tilde = betas * (1 - self.bar_before) / (1 - self.bar)
        self.tilde_clipped = np.append(self.tilde[1], self.tilde[1:])

    def noisy(self, x0, s, noise):
        return np.sqrt(self.bar[s]) * x0 + np.sqrt(1 - self.bar[s]) * noise

    def p(self, xs, s):
        n = len(xs)
        inputs = np.concatenate([xs.reshape(n, -1), np.full((n, 1), s / 10)], 1)
        out = (np.tanh(inputs @ self.w1) @ self.w2).reshape(n, -1, *SHAPE[1:])
        out, v = out[:, : SHAPE[0]], out[:, SHAPE[0] :]
        a, b = np.sqrt(self.bar[s]), np.sqrt(1 - self.bar[s])
        x0 = {
            "noise": lambda: xs / a - b / a * out,
            "x0": lambda: out,
            "velocity": lambda: a * xs - b * out,
            "score": lambda: (xs + b**2 * out) / a,
        }[self.predicts]()
        if self.clip:
            x0 = np.clip(x0, -self.clip, self.clip)
        log_var = {
            "fixed_small": lambda: np.log(self.tilde_clipped[s]) + 0 * xs,
            "fixed_large": lambda: np.log(np.append(self.tilde[1], self.betas[1:])[s]) + 0 * xs,
            "learned_range": lambda: (
                (v + 1) / 2 * np.log(self.betas[s])
                + (1 - (v + 1) / 2) * np.log(self.tilde_clipped[s])
            ),
            "learned": lambda: np.log(v),
            "learned_log": lambda: v,
        }[self.variance]()
        return self.mean(x0, xs, s), log_var

    def mean(self, x0, xs, s):
        on_x0 = self.betas[s] * np.sqrt(self.bar_before[s]) / (1 - self.bar[s])
        on_xs = (1 - self.bar_before[s]) * np.sqrt(1 - self.betas[s]) / (1 - self.bar[s])
        return on_x0 * x0 + on_xs * xs

    def kl(self, x0, s, noise):
        xs = self.noisy(x0, s, noise)
        mean, log_var = self.p(xs, s)
        true = np.log(self.tilde[s])
        each = 0.5 * (
            -1
            + log_var
            - true
            + np.exp(true - log_var)
            + (self.mean(x0, xs, s) - mean) ** 2 * np.exp(-log_var)
        )
        return each.reshape(len(x0), -1).sum(1)

    def decoder(self, x0, noise):
        mean, log_var = self.p(self.noisy(x0, 0, noise), 0)
        sd = np.exp(log_var / 2)
        upper, lower = (x0 + 1 / 255 - mean) / sd, (x0 - 1 / 255 - mean) / sd
        signs = np.array([1.0, -1.0]).reshape(2, 1, 1, 1, 1)
        below = logsumexp(log_ndtr(np.stack([upper, lower])), axis=0, b=signs)
        above = logsumexp(log_ndtr(np.stack([-lower, -upper])), axis=0, b=signs)
        inside = np.where(lower + upper < 0, below, above)
        each = np.where(
            x0 < -0.999, log_ndtr(upper), np.where(x0 > 0.999, log_ndtr(-lower), inside)
        )
        return -each.reshape(len(x0), -1).sum(1)

    def prior(self, x0):
        mean, var = np.sqrt(self.bar[-1]) * x0, 1 - self.bar[-1]
        return 0.5 * (mean**2 + var - 1 - np.log(var)).reshape(len(x0), -1).sum(1)


CASES = [
    ("noise", "fixed_small", 1.0),
    ("noise", "fixed_large", None),
    ("noise", "learned_range", 1.0),
    ("x0", "fixed_small", None),
    ("x0", "learned_log", 0.8),
    ("velocity", "fixed_large", 1.0),
    ("velocity", "learned_range", None),
    ("score", "fixed_small", None),
]
WIDE = np.array(
    [0.02, 0.05, 0.1, 0.3, 0.6, 0.9]
)  # so wide a first step that the decoder is far from zero and one


@pytest.fixture(scope="module")
def pictures():
    images = torch.randint(0, 256, (30, *SHAPE), generator=seeded(4), dtype=torch.uint8)
    images[0], images[1] = 0, 255  # all of the darkest, all of the brightest
    return images


@pytest.mark.parametrize("predicts, variance, clip", CASES)
def test_every_term_is_that_of_a_second_implementation(predicts, variance, clip, pictures):
    network = Random(variance.startswith("learned"))
    kernel, reverse = adapters.from_function(
        network, WIDE, predicts=predicts, variance=variance, clip=clip
    )
    second = InNumPy(network, WIDE, predicts, variance, clip)
    x0 = pictures.double() / 127.5 - 1
    noise = torch.randn(x0.shape, generator=seeded(5), dtype=torch.float64)
    for s in range(1, len(WIDE)):
        found = kl_terms(kernel, reverse, x0, torch.full((len(x0),), s + 1), noise=noise)
        np.testing.assert_allclose(found, second.kl(x0.numpy(), s, noise.numpy()), rtol=1e-9)
    work, rows = Work((kernel, reverse), pictures, None, Options()), torch.arange(len(x0))
    work.x0, one = x0, torch.ones_like(rows)
    found = kernel.sum_event(work.losses(rows, one, kernel.q_marginal(x0, 1).draw(noise)))
    np.testing.assert_allclose(found, second.decoder(x0.numpy(), noise.numpy()), rtol=1e-6)


@pytest.mark.parametrize("draws", [None, 3])
def test_the_whole_cost_is_that_of_a_second_implementation(draws, pictures):
    network = Random(True)
    model = adapters.from_function(network, WIDE, variance="learned_range", clip=1.0)
    second, x0 = (
        InNumPy(network, WIDE, "noise", "learned_range", 1.0),
        pictures.double().numpy() / 127.5 - 1,
    )
    random = np.random.default_rng(6)
    each = np.zeros((200, len(x0)))
    for r in range(len(each)):
        noise = random.standard_normal((len(WIDE), *x0.shape))
        each[r] = sum(second.kl(x0, s, noise[s]) for s in range(1, len(WIDE))) + second.decoder(
            x0, noise[0]
        )
    scale = math.log(2) * math.prod(SHAPE)
    theirs, their_se = (
        (each.mean() + second.prior(x0).mean()) / scale,
        each.mean(1).std() / math.sqrt(200) / scale,
    )
    cost = adapters.bits_per_dim(model, pictures, draws=draws, replicates=40)
    assert (
        abs(cost.bits_per_dim - theirs) < 4 * math.hypot(cost.mc_se, their_se)
        and cost.mc_se < 0.01 * theirs
    )
    assert cost.rest == pytest.approx(second.prior(x0).mean() / scale, rel=1e-4)
    assert (
        cost.matrix.shape == (30, 7)
        and not cost.matrix[:, 0].any()
        and (cost.by_step[1:] > 0).all()
    )
    assert float(cost.by_step.sum()) + cost.rest == pytest.approx(cost.bits_per_dim)
    assert cost.se > cost.mc_se and str(cost).startswith(
        f"{cost.bits_per_dim:.4f} ± {cost.se:.4f} bits/dim"
    )


def test_the_stated_monte_carlo_error_is_right(pictures):
    model = adapters.from_function(Random(False), WIDE)
    costs = [adapters.bits_per_dim(model, pictures, draws=2, seed=seed) for seed in range(60)]
    stated = np.sqrt(np.mean([cost.mc_se**2 for cost in costs]))
    assert np.std([cost.bits_per_dim for cost in costs], ddof=1) == pytest.approx(stated, rel=0.35)


# ---------------------------------------------------------------- the decoder


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("mean, sd", [(0.1, 0.3), (-1.4, 0.01), (0.3, 1e-5), (5.0, 0.2)])
def test_probabilities_of_all_levels_have_sum_one_and_none_is_lost(levels, mean, sd):
    x = torch.arange(levels, dtype=torch.float64) * 2 / (levels - 1) - 1
    p = Normal(torch.full_like(x, mean), torch.tensor(sd**2, dtype=torch.float64))
    log_p = adapters.log_level(x, p, levels)
    assert torch.isfinite(log_p).all() and float(log_p.exp().sum()) == pytest.approx(1)


def test_far_from_the_mean_the_decoder_keeps_its_digits():
    x, far = torch.zeros(1), Normal(torch.tensor([-0.5]), torch.tensor([1e-4]))
    wanted = log_ndtr(
        -(0.5 - 1 / 255) / 0.01
    )  # what lies beyond the near edge; beyond the far one lies nothing beside it
    assert float(adapters.log_level(x, far)) == pytest.approx(wanted, rel=1e-5) and wanted < -1000


# ---------------------------------------------------------------- our own models through the
# adapter


@pytest.fixture(scope="module")
def ours():
    return load_weights(ROOT / "models" / "mnist_conv.safetensors")


def test_a_model_of_ours_as_a_function_has_the_k_that_it_has(ours):
    kernel, reverse = ours.thinned(6)
    x0 = sample_each(kernel, reverse, 4, ours.network.shape, seed=0)

    def both(x, s):
        p = reverse(x, s + 1)
        return torch.cat([p.mean, p.var.expand_as(p.mean)], 1)

    again = adapters.from_function(both, kernel.beta[1:], predicts="mean", variance="learned")
    without, through = (full_bound(k, r, x0, seeded(7)) for k, r in ((kernel, reverse), again))
    assert torch.equal(through.kl, without.kl) and torch.equal(through.rest, without.rest)
    without, through = (
        sampled_bound(k, r, x0, seeded(8), draws=2) for k, r in ((kernel, reverse), again)
    )
    assert torch.equal(through.kl, without.kl)


def test_the_paper_s_last_step_gives_the_unit_of_later_papers(pictures):
    kernel, reverse = model = adapters.from_function(Random(False), WIDE, clip=1.0)
    cost = adapters.bits_per_dim(model, pictures, draws=None, last_step="fixed", replicates=200)
    x0 = (
        pictures + torch.rand(pictures.shape, generator=seeded(0), dtype=torch.float64) - 0.5
    ) / 127.5 - 1
    bound = full_bound(kernel, reverse, x0, seeded(9), replicates=200)
    wanted = bits_per_dim(bits(bound.K), math.prod(SHAPE), sigma=127.5)
    assert abs(cost.bits_per_dim - wanted) < 4 * math.sqrt(2) * cost.mc_se and cost.mc_se < 0.02
    assert not cost.matrix[:, :2].any()


def test_a_pilot_makes_the_estimate_better_and_leaves_it_unbiased():
    kernel, reverse = adapters.from_function(Best("noise"), BETAS)
    level = ((gaussian_data(40, 1, 2, 2) + 1) * 127.5).round().byte()
    work = Work((kernel, reverse), level, None, Options())
    weights, x0 = work.pilot(), work.x0
    assert weights.shape == (41,) and float(weights.sum()) == pytest.approx(1)
    by_pilot, even = (
        sampled_bound(kernel, reverse, x0, seeded(1), 4, w, replicates=50) for w in (weights, None)
    )
    assert by_pilot.mc_se < 0.7 * even.mc_se
    assert abs(by_pilot.K - even.K) < 4 * math.hypot(by_pilot.mc_se, even.mc_se)


# ---------------------------------------------------------------- how networks are treated, and
# what is refused


def test_dropout_is_off_while_the_bound_is_measured_and_comes_back(pictures):
    class Dropped(Random):
        def __init__(self):
            super().__init__(False)
            self.drop, self.still = nn.Dropout(0.5), nn.Dropout(0.5).eval()

        def forward(self, x, s):
            return self.still(self.drop(super().forward(x, s)))

    network = Dropped()
    cost = adapters.bits_per_dim(adapters.from_function(network, WIDE), pictures)
    plain = adapters.bits_per_dim(adapters.from_function(Random(False), WIDE), pictures)
    assert cost.bits_per_dim == plain.bits_per_dim
    assert network.training and network.drop.training and not network.still.training


def test_a_sample_of_an_adapted_model_is_drawn_by_the_package():
    kernel, reverse = adapters.from_function(
        Best("noise", learned=True), BETAS, variance="learned_range"
    )
    x = sample_each(kernel, reverse, 400, (1, 2, 2), seed=0)
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.05) and float(x.var()) == pytest.approx(
        VAR, rel=0.15
    )


NOISE = adapters.from_function(lambda x, s: 0 * x, BETAS)


def scheduler(**parts):
    return SimpleNamespace(**({"config": {}, "betas": BETAS} | parts))


def theirs(**parts):
    return SimpleNamespace(**({"objective": "pred_noise", "betas": BETAS, "model": abs} | parts))


@pytest.mark.parametrize(
    "words, message",
    [
        ({"predicts": "epsilon"}, "predicts is 'epsilon'"),
        ({"variance": "small"}, "variance is 'small'"),
        ({"clip": -1}, "clip is -1"),
        ({"clip": "x"}, "clip is 'x'"),
        ({"first_var": 0.0}, "first_var is 0.0"),
        ({"first_var": "x"}, "first_var is 'x'"),
        ({"event_dim": "3"}, "event_dim is '3'"),
        ({"event_dim": 2.0}, "event_dim is 2.0"),
        ({"betas": None}, "either betas or alphas_cumprod"),
        ({"betas": "linear"}, "betas is a str"),
        ({"betas": [0.1]}, "T > 1"),
        ({"betas": BETAS + 0j}, "betas is a ndarray of complex128"),
        ({"betas": BETAS[None]}, "shape .1, 40."),
        ({"betas": None, "alphas_cumprod": [0.5, 0.6]}, "alphas_cumprod is no schedule: beta_2"),
        (
            {"betas": None, "alphas_cumprod": torch.tensor([0.9999, 0.5]).half()},
            "beta_1 is 0.0.*of torch.float16",
        ),
        ({"function": 5}, "the model is a int"),
    ],
)
def test_what_is_no_chain_is_refused_in_a_sentence(words, message):
    with pytest.raises(adapters.AdapterError, match=message):
        adapters.from_function(**({"function": Best("x0"), "betas": BETAS} | words))


@pytest.mark.parametrize(
    "words, message",
    [
        ((nn.Linear(1, 1),), "a network and its scheduler"),
        ((abs, scheduler(config=None)), "its scheduler with a config"),
        ((abs, SimpleNamespace(config={})), "SimpleNamespace has no betas"),
        ((abs, scheduler(config={"prediction_type": ["sample"]})), "prediction_type of Simple"),
        ((abs, scheduler(config={"thresholding": True})), "has thresholding but no function"),
        ((abs, scheduler(alphas_cumprod=[0.9, 0.8])), "have lengths .40, 2.;"),
    ],
)
def test_parts_of_diffusers_that_are_missing_are_named(words, message):
    with pytest.raises(adapters.AdapterError, match=message):
        adapters.from_diffusers(*words)


def test_models_of_other_kinds_and_unknown_words_are_refused():
    for model in (5, nn.Linear(1, 1), theirs(objective=["pred_x0"]), theirs(model=None)):
        with pytest.raises(adapters.AdapterError, match="the model is a|is no chain of steps"):
            adapters.adapted(model)
    for make in (
        lambda: adapters.from_diffusers(abs, scheduler(), clop=1),
        lambda: adapters.from_denoising_diffusion_pytorch(theirs(), clop=1),
    ):
        with pytest.raises(
            adapters.AdapterError, match="clop is unknown; it must be one of betas,"
        ):
            make()


def test_a_network_that_works_in_place_has_the_number_that_it_has_on_a_copy(pictures):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.LeakyReLU(inplace=True), nn.Conv2d(2, 2, 1)).requires_grad_(False)
    ways = (lambda x, s: layers(x)), (lambda x, s: layers(x.clone()))
    one, other = (
        adapters.bits_per_dim(adapters.from_function(way, BETAS), pictures) for way in ways
    )
    assert one.bits_per_dim == other.bits_per_dim


@pytest.mark.parametrize("draws", [None, 3])
@pytest.mark.parametrize(
    "network, clip, message",
    [
        (lambda x, s: torch.full_like(x, 1e30), None, "the network gives a mean from"),
        (lambda x, s: torch.full_like(x, torch.nan), 1.0, "a mean from nan to nan"),
        (lambda x, s: x + 0j, None, "returned a Tensor of torch.complex64"),
        (lambda x, s: SimpleNamespace(out=x), None, "returned a SimpleNamespace"),
        (lambda x, s: x @ torch.ones(9, 9), None, "with x.t and the step alone .* multiplied"),
        (torch.zeros_like, None, "with x.t and the step alone"),
        (lambda x, s: x, lambda x0: None, "the clip function returned a NoneType"),
        (lambda x, s: x, lambda x0: x0.mean(0, keepdim=True), "clip function returned a Tensor"),
    ],
)
def test_answers_that_are_no_prediction_are_refused(network, clip, message, pictures, draws):
    with pytest.raises(adapters.AdapterError, match=message):
        adapters.bits_per_dim(adapters.from_function(network, BETAS, clip=clip), pictures, draws)


@pytest.mark.parametrize("predicts", ["velocity", "x0", "noise", "score"])
def test_a_chain_that_keeps_no_signal_has_the_limit_of_chains_that_do(predicts, pictures):
    costs, words = [], {"predicts": predicts, "clip": 1.0}
    for last in (1 - 1e-9, 1.0):
        betas = [0.02, 0.1, 0.3, last]
        if last == 1 and predicts in ("noise", "score"):
            with pytest.raises(adapters.AdapterError, match=f"β_T = 1.*a {predicts} says nothing"):
                adapters.from_function(Random(False), betas, **words)
            return
        model = adapters.from_function(Random(False), betas, **words)
        costs.append(adapters.bits_per_dim(model, pictures, None).bits_per_dim)
    assert costs[1] == pytest.approx(costs[0], rel=1e-3) and costs[0] < 100


def test_the_noise_of_the_last_step_is_in_the_stated_error():
    """A network that knows the images but at t = 1, where μ is x^1: the decoder alone is noisy."""
    images = torch.full((40, 1, 2, 2), 200, dtype=torch.uint8)
    known = 200 / 127.5 - 1
    model = adapters.from_function(
        lambda x, s: torch.where(s.reshape(-1, 1, 1, 1) == 0, x, known), [0.1, 0.3], predicts="x0"
    )
    costs = [adapters.bits_per_dim(model, images, None, seed=seed) for seed in range(60)]
    spread = np.std([cost.bits_per_dim for cost in costs], ddof=1)
    assert spread > 0 and spread == pytest.approx(np.mean([cost.mc_se for cost in costs]), rel=0.3)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda images: images.float() / 255,
            "values from 0 to 1 of torch.float32; they must be whole levels",
        ),
        (lambda images: images.float(), "values from 0 to 255"),
        (lambda images: images / 127.5 - 1 + 0.001, "not resized or made noisy"),
        (lambda images: images.int() + 1, "values from 1 to 256"),
        (lambda images: (images / 127.5 - 1).bfloat16(), "of torch.bfloat16; .* tell them apart"),
        (lambda images: images[:1], "at least two"),
        (lambda images: images > 100, "of torch.bool"),
        (lambda images: images.numpy().astype(object), "the images are a ndarray of object"),
        (lambda images: [images[0].numpy(), images[1, :1].numpy()], "the images are a list"),
        (lambda images: None, "the images are a NoneType"),
        (lambda images: "images/", "the images are a str"),
        (lambda images: images.to("meta"), "the images are a Tensor"),
        (lambda images: images + 0j, "real numbers"),
        (lambda images: np.ma.masked_less(images.numpy(), 100), "the images are a MaskedArray"),
        (lambda images: [Image.new("P", (3, 3))] * 2, "all pictures of mode L or RGB"),
    ],
)
def test_images_of_another_kind_are_refused(change, message, pictures):
    with pytest.raises(adapters.AdapterError, match=message):
        adapters.bits_per_dim(NOISE, change(pictures))


def test_images_in_other_containers_are_the_same_images(pictures):
    array, scaled = pictures.numpy(), pictures / 127.5 - 1
    same = [array, array[::-1].copy()[::-1], array.astype(">i4"), list(array), pictures.to_sparse()]
    for images in [*same, scaled, scaled.half(), pictures.half() / 127.5 - 1]:
        assert torch.equal(as_levels(images, 256), pictures.double())
    three = torch.cat([pictures, pictures[:, :1]], 1)
    colour = [Image.fromarray(image.movedim(0, -1).numpy()) for image in three]
    assert torch.equal(as_levels(colour, 256), three.double())
    grey = [Image.fromarray(image[0].numpy()) for image in pictures]
    assert torch.equal(as_levels(grey, 256), pictures[:, :1].double())
    for seed in (1.5, None, "1", -1, 2**64):
        with pytest.raises(adapters.AdapterError, match="seed is"):
            adapters.bits_per_dim(NOISE, pictures, seed=seed)
    for draws in (0, -1, 1.5, "2"):
        with pytest.raises(BoundError, match="draws is .* whole number of at least 1"):
            adapters.bits_per_dim(NOISE, pictures, draws)
    low = nn.Conv2d(2, 2, 1).bfloat16()
    model = adapters.from_function(lambda x, s: low(x), BETAS, network=low)
    assert math.isfinite(adapters.bits_per_dim(model, pictures).bits_per_dim)


def test_a_network_that_gives_no_number_is_refused_at_every_step(pictures):
    for step in (0, 3):
        broken = lambda x, s, step=step: torch.where((s == step).any(), torch.nan, x)  # noqa: E731
        with pytest.raises(adapters.AdapterError, match="gives a mean from nan to nan"):
            adapters.bits_per_dim(adapters.from_function(broken, WIDE), pictures, draws=None)


def test_a_network_whose_channels_do_not_fit_its_variance_is_refused(pictures):
    with pytest.raises(adapters.AdapterError, match="it must be a real tensor of shape"):
        adapters.bits_per_dim(adapters.from_function(Random(True), WIDE), pictures)
    with pytest.raises(adapters.AdapterError, match="last_step is 'first'"):
        adapters.bits_per_dim(
            adapters.from_function(Random(False), WIDE), pictures, last_step="first"
        )


def test_posteriors_look_through_an_adapted_model():
    """Two pixels of correlation 0.9, one of them known: the mean of the other is 0.9 times it, as
    by the exact denoiser itself.
    """
    C, beta = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64), torch.from_numpy(BETAS)
    alpha_bar = torch.cumprod(1 - beta, 0)

    def best(x, s):
        a, eye = alpha_bar[s][:, None, None], torch.eye(2, dtype=torch.float64)
        return (a.sqrt() * torch.linalg.solve(a * C + (1 - a) * eye, C) @ x[..., None])[
            ..., 0
        ]  # all three commute

    kernel, reverse = adapters.from_function(best, BETAS, predicts="x0", event_dim=1)
    known = torch.tensor([False, True])
    y = torch.tensor([[0.0, 2.0]], dtype=torch.float64).expand(4000, 2)
    r = Through(reverse, Mask(known), y, 0.0, solve=3)
    drawn = sample(kernel, r.skip, (4000, 2), seeded(0), r=r)[:, 0]
    assert float(drawn.mean()) == pytest.approx(1.8, abs=0.05) and float(drawn.std()) < 0.5


def test_no_more_images_at_once_than_asked_for(pictures):
    seen = []

    def network(x, s):
        seen.append(len(x))
        return torch.zeros_like(x)

    for draws in (None, 3):
        adapters.bits_per_dim(
            adapters.from_function(network, BETAS), pictures, draws=draws, block=2
        )
    assert max(seen) <= max(2, 16)  # sixteen of a pilot


def test_images_without_an_axis_for_channels_are_refused(pictures):
    for draws in (None, 3):
        with pytest.raises(BoundError, match="shape"):
            adapters.bits_per_dim(NOISE, pictures[:, 0], draws)


def test_a_chain_of_images_of_another_scale_is_refused():
    model = theirs(normalize=lambda x: 2 * x - 1)
    assert adapters.from_denoising_diffusion_pytorch(model).kernel.T == len(BETAS)
    model.normalize = lambda x: x
    with pytest.raises(adapters.AdapterError, match="scaled to"):
        adapters.from_denoising_diffusion_pytorch(model)
