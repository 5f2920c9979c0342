"""Denoising by the chain from the step of y's own noise, and r through the model in a range of
noise, against exact posteriors.
"""

import pytest
import torch
from test_evidence import chain, correlated

from nonequilibrium.diffusion.evidence import Blur, Downsample, Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.posterior import (
    Between,
    Inpaint,
    as_state,
    denoised,
    denoised_mean,
    excess,
    step_of,
)
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError


def test_the_step_has_the_noise_of_what_was_seen_or_a_little_more():
    kernel = GaussianKernel(schedule("even_log_snr", 500, beta_1=1e-4, alpha_bar_T=1e-4))
    for var in (0.01, 1.0, 25.0):
        t, noise = step_of(kernel, var), kernel.one_minus_alpha_bar / kernel.alpha_bar
        assert noise[t - 1] < var <= noise[t] and 0 <= excess(kernel, var) < 0.05
        x0 = torch.full((20_000, 1), 0.7, dtype=torch.float64)
        g = torch.Generator().manual_seed(0)
        y = x0 + var**0.5 * torch.randn(x0.shape, generator=g, dtype=torch.float64)
        at, xt = as_state(kernel, y, var, g)
        marginal = kernel.q_marginal(x0[:1], t)
        assert at == t and xt.mean().item() == pytest.approx(marginal.mean.item(), abs=0.03)
        assert xt.var().item() == pytest.approx(marginal.var.item(), rel=0.05)
    for var in (0.0, -1.0, 1e9):
        with pytest.raises(ParameterError, match="variance is"):
            step_of(kernel, var)


def test_the_noise_that_an_observation_lacks_of_its_step_is_added():
    kernel = GaussianKernel(schedule("even_log_snr", 8, beta_1=1e-3, alpha_bar_T=1e-3))
    y = torch.zeros(20_000, 1, dtype=torch.float64)
    t, xt = as_state(kernel, y, 1.0, torch.Generator().manual_seed(0))
    missing = kernel.one_minus_alpha_bar[t] - kernel.alpha_bar[t]
    assert excess(kernel, 1.0) > 1 and xt.var().item() == pytest.approx(float(missing), rel=0.05)


def test_denoising_from_the_step_of_this_noise_draws_the_exact_posterior():
    d, var, n = 4, 1.0, 20_000
    C = torch.tensor(correlated(0.9, d))
    kernel, reverse = chain(C.numpy(), 300, (d,))
    y = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
    gain = C @ torch.linalg.inv(C + var * torch.eye(d, dtype=torch.float64))
    x = denoised(kernel, reverse, y.expand(n, d), var, torch.Generator().manual_seed(1))
    assert torch.allclose(x.mean(0), gain @ y, atol=0.03)
    assert torch.allclose(torch.cov(x.T), C - gain @ C, atol=0.03)
    one = denoised_mean(kernel, reverse, y.expand(n, d), var, torch.Generator().manual_seed(2))
    assert torch.allclose(one.mean(0), gain @ y, atol=0.03)
    assert one.std(0).max() < 0.2, "only the added noise moves it"


def test_samples_do_not_depend_on_what_they_are_denoised_beside():
    kernel, reverse = chain(correlated(0.9, 4), 60, (4,))
    y = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    together = denoised(kernel, reverse, y, 1.0, generators)
    alone = denoised(kernel, reverse, y[1:2], 1.0, [torch.Generator().manual_seed(1)])
    assert torch.allclose(together[1:2], alone)


@pytest.mark.parametrize(
    "A", [Downsample(2), Downsample(4), Blur(1.0), Mask(torch.arange(64).reshape(8, 8) % 3 == 0)]
)
def test_what_through_pulls_back_is_the_adjoint_of_A(A):
    """⟨A x, u⟩ = ⟨x, A^T u⟩ with A^T by autograd, and y has the shape that is said."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 8, generator=g, dtype=torch.float64, requires_grad=True)
    Ax = A(x)
    factor = getattr(A, "factor", 1)
    assert Ax.shape == (2, 3, 8 // factor, 8 // factor) == A.variance(x.detach() ** 2).shape
    u = torch.randn(Ax.shape, generator=g, dtype=torch.float64)
    (pulled,) = torch.autograd.grad(Ax, x, u)
    columns = torch.stack(
        [(A(e.reshape(1, 3, 8, 8)) * u[:1]).sum() for e in torch.eye(192, dtype=torch.float64)]
    )
    assert torch.allclose(columns, pulled[0].flatten())
    assert (Ax * u).sum().item() == pytest.approx((x * pulled).sum().item())


def moments(kernel, r, n, event, seed):
    x = sample(kernel, Through.skip, (n, *event), torch.Generator().manual_seed(seed), r=r)
    return x.flatten(1).mean(0), torch.cov(x.flatten(1).T)


def test_super_resolution_draws_the_exact_posterior_also_if_it_looks_through_in_a_range_alone():
    event, var, n = (1, 4, 4), 0.05, 2000
    place = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    C = 0.9 ** (place[:, None] - place[None]).abs().sum(-1).double()
    kernel, reverse = chain(C.numpy(), 150, event)
    A = Downsample(2)
    matrix = A(torch.eye(16, dtype=torch.float64).reshape(16, *event)).reshape(16, -1).T
    y = torch.tensor([[1.0, -0.5], [0.4, 1.5]], dtype=torch.float64).reshape(1, 1, 2, 2)
    of_y = matrix @ C @ matrix.T + var * torch.eye(4, dtype=torch.float64)
    gain = C @ matrix.T @ torch.linalg.inv(of_y)
    exact_mean, exact_cov = gain @ y.flatten(), C - gain @ matrix @ C
    seen = y.expand(n, 1, 2, 2)
    through = Through(reverse, A, seen, var, solve=4)
    cheaper = Between(through, Through(reverse, A, seen, var, solve=0))
    for r in (through, cheaper):
        mean, cov = moments(kernel, r, n, event, 3)
        assert torch.allclose(mean, exact_mean, atol=0.06)
        assert torch.allclose(cov, exact_cov, atol=0.06)
    prior = sample(kernel, reverse, (n, *event), torch.Generator().manual_seed(4)).flatten(1)
    assert (prior.mean(0) - exact_mean).abs().max() > 0.3, "the observation says something"


def test_a_shift_beyond_what_data_have_ends_at_the_limit_and_others_are_left_as_they_are():
    kernel, reverse = chain(correlated(0.9), 40)
    y = torch.full((2, 32), 50.0, dtype=torch.float64)
    known = torch.zeros(32, dtype=torch.bool)
    known[0] = True
    t = int(((kernel.one_minus_alpha_bar / kernel.alpha_bar).sqrt() - 0.5).abs().argmin())
    xt = torch.randn(2, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    through = Through(reverse, Mask(known), torch.where(known, y, 0.0), 0.1, 8)
    free, limited = (
        Between(through, through, limits=limits)(kernel, None, xt, t)
        for limits in (None, (-3.0, 3.0))
    )
    of_free, of_limited = (kernel.x0_given(p, xt, t).mean for p in (free, limited))
    assert of_free[:, 0].min() > 10 and torch.allclose(of_limited, of_free.clamp(-3, 3))


def test_between_holds_known_pixels_and_looks_through_only_where_it_is_told_to():
    kernel, reverse = chain(correlated(0.9), 40)
    known, calls = torch.arange(32) % 2 == 0, []
    y = torch.linspace(-1, 1, 32, dtype=torch.float64).expand(3, 32)

    class Counted(Through):
        def __call__(self, kernel, p, xt, t):
            calls.append(t)
            return super().__call__(kernel, p, xt, t)

    through = Counted(reverse, Mask(known), torch.where(known, y, 0.0), 0.0, 3)
    r = Between(through, Inpaint(y, known, annealed=True))
    x = sample(kernel, Through.skip, (3, 32), torch.Generator().manual_seed(0), r=r)
    noise = (kernel.one_minus_alpha_bar / kernel.alpha_bar).sqrt()
    assert torch.equal(x[:, known], y[:, known])
    inside = {t for t in range(2, 41) if r.lowest <= noise[t] <= r.highest}
    assert set(calls) == {1} | inside and len(calls) < 30
