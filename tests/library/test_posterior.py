"""Posteriors against closed forms: for Gaussian data the optimal reverse kernel is known, and so is
every posterior.
"""

import numpy as np
import pytest
import torch
from recursion import denoised, expected_kl, inpainted, posterior, reverse_kernel

from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from nonequilibrium.diffusion.sampling import reverse_trajectory, sample
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError

KERNEL = GaussianKernel(schedule("even_log_snr", 200, beta_1=1e-4, alpha_bar_T=1e-4))


def standard_normal_model(xt, t):
    """The reverse kernel of the chain in equilibrium, exact for x^0 ~ N(0, I)."""
    return KERNEL.q_step(xt, t)


def test_multiplying_by_a_gaussian_is_exact():
    p, y = Normal(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 2.0]])), torch.full((1, 2), 3.0)
    q = Denoise(y, 0.25)(KERNEL, p, None, 5)
    precision = 1 / p.var + 1 / 0.25
    assert torch.allclose(q.var, 1 / precision)
    assert torch.allclose(q.mean, (p.mean / p.var + y / 0.25) / precision)


def test_annealed_r_is_whole_at_the_data_and_gone_at_the_start():
    p, y = Normal(torch.zeros(1, 2), torch.ones(1, 2)), torch.full((1, 2), 3.0)
    r = Denoise(y, 1.0, annealed=True)
    start, end = r(KERNEL, p, None, KERNEL.T + 1), r(KERNEL, p, None, 1)
    assert torch.equal(start.mean, p.mean) and torch.equal(start.var, p.var)
    assert torch.allclose(end.mean, y / 2) and torch.allclose(end.var, p.var / 2)


def test_denoising_draws_towards_the_observation():
    y = torch.tensor([2.0, -2.0], dtype=torch.float64).expand(4000, 2)
    generator = torch.Generator().manual_seed(0)
    drawn = sample(KERNEL, standard_normal_model, (4000, 2), generator, r=Denoise(y, 1.0))
    # Exact posterior: N(y/2, 1/2). The paper's constant r acts at all t, so it draws nearer to y
    # than that, never past it.
    mean = drawn.mean(0)
    assert 0.95 < mean[0] < 2.0 and -2.0 < mean[1] < -0.95
    plain = sample(KERNEL, standard_normal_model, (4000, 2), torch.Generator().manual_seed(0))
    assert plain.mean(0).abs().max() < 0.1 and plain.std(0).sub(1).abs().max() < 0.05


@pytest.mark.parametrize("annealed", [False, True])
def test_known_coordinates_come_out_exactly_as_given(annealed):
    x0 = torch.linspace(-2, 2, 40, dtype=torch.float64).reshape(20, 2)
    known = torch.tensor([True, False])
    r, generator = Inpaint(x0, known, annealed), torch.Generator().manual_seed(0)
    drawn = sample(KERNEL, standard_normal_model, (20, 2), generator, r=r)
    assert torch.equal(drawn[:, 0], x0[:, 0]) and (drawn[:, 1] != x0[:, 1]).all()


def test_annealed_inpainting_follows_the_forward_chain_of_what_is_known():
    x0 = torch.full((5000, 1), 1.5, dtype=torch.float64)
    r = Inpaint(x0, torch.tensor([True]), annealed=True)
    draw = KERNEL, standard_normal_model, (5000, 1), torch.Generator().manual_seed(0)
    path = reverse_trajectory(*draw, keep=[50, 150, 200], r=r)
    for t, x in path.items():
        expected = KERNEL.q_marginal(x0, t)
        error = 5 * (expected.var.item() / 5000) ** 0.5
        assert x.mean().item() == pytest.approx(expected.mean.mean().item(), abs=error)
        assert x.var().item() == pytest.approx(expected.var.item(), rel=0.1)


def test_nothing_known_is_plain_sampling_and_all_known_is_the_image():
    x0 = torch.randn(3, 2, dtype=torch.float64)
    draw = {"kernel": KERNEL, "reverse": standard_normal_model, "shape": (3, 2)}
    plain = sample(**draw, generator=torch.Generator().manual_seed(4))
    nothing, everything = (
        sample(**draw, generator=torch.Generator().manual_seed(4), r=Inpaint(x0, known))
        for known in (torch.tensor([False, False]), torch.tensor([True, True]))
    )
    assert torch.equal(nothing, plain) and torch.equal(everything, x0)


def test_masks_that_do_not_fit_are_named():
    with pytest.raises(ParameterError, match="dtype torch.float32; it must be boolean"):
        Inpaint(torch.zeros(3, 2), torch.ones(2))
    with pytest.raises(ParameterError, match=r"shape \(5,\); it must fit images of shape \(3, 2\)"):
        Inpaint(torch.zeros(3, 2), torch.ones(5, dtype=torch.bool))


@pytest.mark.parametrize(
    "r", [None, Inpaint(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([True, False]))]
)
def test_samples_with_seeds_of_their_own_do_not_depend_on_the_batch(r):
    def draw(seeds):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        return sample(KERNEL, standard_normal_model, (len(seeds), 2), generators, r=r)

    together = draw([1, 2, 3, 4])
    assert torch.equal(together[1:3], draw([2, 3])) and torch.equal(together[3:], draw([4]))
    with pytest.raises(ValueError, match="2 generators for 3 samples"):
        sample(KERNEL, standard_normal_model, (3, 2), [torch.Generator()] * 2)


# ---------------------------------------------------------------- what the samplers draw, exactly

ROW = np.arange(4)
CORRELATED = 0.8 ** np.abs(ROW[:, None] - ROW)
SHORT = GaussianKernel(schedule("even_log_snr", 25, beta_1=1e-3, alpha_bar_T=1e-3))
REVERSE = {t: reverse_kernel(CORRELATED, SHORT.beta[1:].numpy(), t) for t in range(2, SHORT.T + 1)}


def correlated_model(xt, t):
    """The best reverse kernel of Gaussian data with correlated coordinates."""
    A, v = (torch.tensor(part) for part in REVERSE[t])
    return Normal(xt @ A.T, v.expand(xt.shape))


def assert_draws_have(r, given, M, S, n=60_000):
    """Mean and covariance of draws with the factor r are M @ given and S, within five standard
    errors.
    """
    x = sample(SHORT, correlated_model, (n, 4), torch.Generator().manual_seed(0), r=r)
    var = torch.from_numpy(np.diag(S).copy())
    assert ((x.mean(0) - torch.from_numpy(M @ given)).abs() <= 5 * (var / n).sqrt() + 1e-9).all()
    error = 5 * ((var[:, None] * var + torch.from_numpy(S) ** 2) / n).sqrt() + 1e-9
    assert ((torch.cov(x.T) - torch.from_numpy(S)).abs() <= error).all()


@pytest.mark.parametrize("annealed", [False, True])
def test_inpainting_draws_what_the_exact_recursion_says(annealed):
    known, x0 = np.array([True, False, False, True]), np.array([2.0, 0.0, 0.0, -1.0])
    M, S = inpainted(CORRELATED, SHORT.beta[1:].numpy(), known, annealed)
    assert_draws_have(
        Inpaint(torch.from_numpy(x0).expand(60_000, 4), torch.from_numpy(known), annealed), x0, M, S
    )


@pytest.mark.parametrize("annealed", [False, True])
def test_denoising_draws_what_the_exact_recursion_says(annealed):
    y = np.array([2.0, 0.5, 0.0, -1.5])
    power = (lambda t: 1 - (t - 1) / SHORT.T) if annealed else (lambda t: 1.0)
    M, S = denoised(CORRELATED, SHORT.beta[1:].numpy(), 0.7, power)
    assert_draws_have(Denoise(torch.from_numpy(y), 0.7, annealed), y, M, S)


def test_how_far_both_inpaintings_are_from_the_exact_posterior():
    """A row of 32 pixels, 16 missing in the centre: the figures that ``posterior`` gives."""
    row = np.arange(32)
    known = np.abs(row - 15.5) > 8
    beta = schedule("even_log_snr", 150, beta_1=1e-4, alpha_bar_T=1e-4).numpy()
    kl, use = {}, {}
    for correlation in (0.8, 0.99):
        C = correlation ** np.abs(row[:, None] - row)
        exact, C_known = posterior(C, known)[0], C[np.ix_(known, known)]
        for annealed in (False, True):
            M, S = inpainted(C, beta, known, annealed)
            kl[correlation, annealed] = expected_kl(C, known, M, S)
            mean = M[np.ix_(~known, known)]
            use[correlation, annealed] = np.trace(mean @ C_known @ exact.T) / np.trace(
                exact @ C_known @ exact.T
            )
    assert kl[0.8, False] == pytest.approx(0.22, abs=0.01)
    assert kl[0.8, True] == pytest.approx(0.41, abs=0.01)
    assert use[0.8, False] == pytest.approx(0.75, abs=0.02)
    assert use[0.8, True] == pytest.approx(0.46, abs=0.02)
    assert kl[0.99, False] == pytest.approx(3.6, abs=0.2)
    assert kl[0.99, True] == pytest.approx(2.5, abs=0.2)
