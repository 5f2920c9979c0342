"""Posteriors with a known answer: every exact answer twice, and our samplers beside them."""

import math

import pytest
import torch

from nonequilibrium.diffusion.evidence import Blur, Downsample, Mask
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.schedules import schedule
from replication.restoration.exact import BASELINE, Mixture, Problem, judged, ours

TWO, IMAGE = (1, 1, 2), (1, 4, 4)
FIRST = Mask(torch.tensor([[[True, False]]]))


def modes(distance=1.0):
    mean = torch.tensor([[-1.0, -0.8], [1.0, 0.8], [0.2, -0.9]]).double() * distance
    cov = torch.tensor([[0.2, 0.05], [0.05, 0.1]]).double()
    return Mixture(torch.tensor([0.5, 0.3, 0.2]).double(), mean, cov)


def grid():
    line = torch.linspace(-5, 5, 801, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def density(law, x):
    parts = [torch.distributions.MultivariateNormal(mean, law.cov).log_prob(x) for mean in law.mean]
    return (law.weight.log()[:, None] + torch.stack(parts)).logsumexp(0).exp()


def quadrature(law, likelihood):
    """Mean and variances of p(x) likelihood(x) on a grid."""
    x = grid()
    weight = density(law, x) * likelihood(x)
    weight = weight / weight.sum()
    mean = weight @ x
    return mean, weight @ (x - mean) ** 2


def gaussian(shape, correlation=0.8):
    place = torch.cartesian_prod(*map(torch.arange, shape[-2:])).double()
    cov = correlation ** torch.cdist(place, place, 1)
    return Mixture(torch.ones(1).double(), torch.zeros(1, len(place)).double(), cov)


def test_the_denoiser_is_that_of_quadrature():
    law, x, var = modes(), torch.tensor([[0.3, -0.2], [1.5, 0.1]]).double(), 0.4
    mean, variance = law.given_noisy(x, var)
    for k, seen in enumerate(x):
        exact = quadrature(law, lambda z, seen=seen: (-((z - seen) ** 2).sum(1) / 2 / var).exp())
        assert torch.allclose(mean[k], exact[0], atol=1e-6)
        assert torch.allclose(variance[k], exact[1], atol=1e-6)


@pytest.mark.parametrize("A", [None, FIRST], ids=["noise", "one coordinate"])
def test_the_posterior_is_that_of_quadrature(A):
    y = torch.tensor([[[0.3, -0.4 if A is None else 0.0]]]).double()
    problem = Problem(modes(), A, 0.3, y, TWO)
    mean, cov = problem.posterior.moments()

    def likelihood(x):
        off = (x - y.flatten())[:, problem.seen.flatten()]
        return (-(off**2).sum(1) / 0.6).exp()

    exact = quadrature(problem.law, likelihood)
    assert torch.allclose(mean, exact[0], atol=1e-6)
    assert torch.allclose(cov.diagonal(), exact[1], atol=1e-6)
    x = problem.posterior.sample(200_000, torch.Generator().manual_seed(0))
    assert torch.allclose(x.mean(0), mean, atol=0.01)
    assert torch.allclose(x.T.cov(), cov, atol=0.01)


@pytest.mark.parametrize("A", [None, Blur(1.0), Downsample(2), Mask(torch.rand(IMAGE) > 0.5)])
def test_the_posterior_of_a_gaussian_is_that_of_its_precisions(A):
    """C^−1 + A^T A/σ², in place of the gain of ``given``."""
    law, x = gaussian(IMAGE), torch.randn(1, *IMAGE, dtype=torch.float64)
    problem = Problem(law, A, 0.3, (x if A is None else A(x))[0], IMAGE)
    M, y = problem.matrix, problem.y[problem.seen]
    assert torch.allclose(M @ x.flatten(), y)
    precision = law.cov.inverse() + M.T @ M / 0.3
    mean, cov = problem.posterior.moments()
    assert torch.allclose(cov, precision.inverse())
    assert torch.allclose(mean, torch.linalg.solve(precision, M.T @ y / 0.3))


def test_the_reverse_kernel_has_the_moments_of_the_joint_law():
    """For Gaussians x^{t−1} given x^t from the joint covariance, in place of x^0 given x^t."""
    law, t = gaussian(TWO), 5
    kernel = GaussianKernel(schedule("even_log_snr", 9, beta_1=1e-2, alpha_bar_T=1e-2), 3)
    xt = torch.tensor([[[[0.4, -1.2]]]]).double()
    p = law.reverse(kernel, xt, t)
    eye, beta = torch.eye(2).double(), kernel.beta[t]
    before = kernel.alpha_bar[t - 1] * law.cov + kernel.one_minus_alpha_bar[t - 1] * eye
    gain = (1 - beta).sqrt() * before @ ((1 - beta) * before + beta * eye).inverse()
    assert torch.allclose(p.mean.flatten(), gain @ xt.flatten())
    left = (before - (1 - beta).sqrt() * gain @ before).diagonal()
    assert torch.allclose(p.var.flatten(), left)


def test_exact_samples_are_judged_exact_and_wrong_ones_wrong():
    problem = Problem(gaussian(TWO), None, 0.5, torch.tensor([[[1.0, 0.0]]]).double(), TWO)
    x = problem.posterior.sample(4000, torch.Generator().manual_seed(2))
    right = judged(x, problem)
    for name, value in {"deviation": 1, "coverage": 0.9, "KL": 0}.items():
        assert abs(right[name] - value) < 4 * right[f"{name}_se"] + 0.005
    mean, cov = problem.posterior.moments()
    wide = judged(mean + 2 * (x - mean), problem)
    assert wide["deviation"] == pytest.approx(2 * right["deviation"]) and wide["coverage"] > 0.98
    assert wide["KL"] == pytest.approx(3 - 2 * math.log(2), abs=0.1)
    shifted = judged(x + cov.diagonal().sqrt(), problem)
    assert shifted["mean"] == pytest.approx(1, abs=0.1) and shifted["coverage"] < 0.8
    far = Problem(modes(2.0), FIRST, 0.5, torch.tensor([[[0.3, 0.0]]]).double(), TWO)
    x = far.posterior.sample(2000, torch.Generator().manual_seed(2))
    assert abs(judged(x, far)["energy"]) < 0.01 < 0.2 < judged(-x, far)["energy"]
    law = far.posterior
    z = law.mean[:, 0] / law.cov[0, 0].sqrt()
    share = float(law.weight @ torch.special.ndtr(z))
    assert judged(x, far)["upper"] == pytest.approx(share, abs=0.03)


RIGHT = {
    BASELINE: {},
    "exact chain": {},
    "annealed r": {},
    "through the model": {"number": 2},
    "particles": {"number": 16},
}


@pytest.mark.parametrize("way", RIGHT)
def test_samplers_know_the_noise(way):
    """One pixel at three σ: were σ ignored or doubled, the deviation would be off by a quarter."""
    law, shape = gaussian((1, 1, 1)), (1, 1, 1)
    for sigma in (0.5, 1.0, 2.0):
        problem = Problem(law, None, sigma**2, torch.ones(shape).double(), shape)
        x, _ = ours(problem, 1500, 3, way, T=60, **RIGHT[way])
        mean, cov = problem.posterior.moments()
        assert float(x.std() / cov.sqrt()) == pytest.approx(1, abs=0.1), sigma
        assert float((x.mean() - mean) / cov.sqrt()) == pytest.approx(0, abs=0.15), sigma


def test_constant_r_is_too_sure_at_every_noise_and_differs_between_them():
    deviations = []
    for sigma in (0.5, 1.0, 2.0):
        shape = (1, 1, 1)
        problem = Problem(gaussian(shape), None, sigma**2, torch.ones(shape).double(), shape)
        x, _ = ours(problem, 1500, 3, "constant r", T=60)
        deviations.append(float(x.std()))
        assert deviations[-1] < 0.95 * float(problem.posterior.cov.sqrt())
    assert deviations[0] < 0.8 * deviations[1] < 0.7 * deviations[2]


def test_holes_are_filled_rightly_back_and_forth_and_through_the_model():
    known = torch.ones(IMAGE).bool()
    known[..., 1:3] = False
    law = gaussian(IMAGE, 0.9)
    x = law.sample(1, torch.Generator().manual_seed(1)).reshape(1, *IMAGE)
    problem = Problem(law, Mask(known), 0.0025, torch.where(known, x, 0.0)[0], IMAGE)
    KL = {}
    for way, number in (("replacement", 0), ("re-noised", 5), ("through the model", 8)):
        KL[way] = judged(ours(problem, 500, 4, way, T=60, number=number)[0], problem)["KL"]
    assert max(KL["through the model"], KL["re-noised"]) < 0.05 < 0.5 < KL["replacement"]
    assert ours(problem, 2, 0, "exact chain") is None, "not a hole's"
