"""A mean over all images by a few evaluations of a model, corrected by regression on a cheap
reference measured on all of them (two-phase sampling with a control variate): images differ by far
more than two models do on the same image, step and noise.
"""

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from nonequilibrium.adapters.libraries import adapted
from nonequilibrium.adapters.prediction import Adapted, from_function
from nonequilibrium.adapters.work import Work
from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.distributed import mine, total

FOLDS = 5


def gaussian(kernel: GaussianKernel, x0: Tensor) -> Adapted:
    """The best estimate of x^0 for the stationary Gaussian with the moments of periodic ``x0``."""
    mean = x0.mean((0, 2, 3), keepdim=True)
    waves = torch.fft.fft2(x0 - mean)
    spectrum = torch.einsum("nchw,ndhw->hwcd", waves, waves.conj()) / len(x0) / x0[0, 0].numel()
    values, vectors = torch.linalg.eigh(spectrum)

    def estimate(x: Tensor, s: Tensor) -> Tensor:
        t = (s + 1).cpu()
        signal = kernel.at(kernel.alpha_bar, t, x)
        left = kernel.at(kernel.one_minus_alpha_bar, t, x)
        waves = torch.fft.fft2(x - signal.sqrt() * mean)
        waves = torch.einsum("hwcd,nchw->nhwd", vectors.conj(), waves)
        waves = waves * signal.sqrt() * values / (signal * values + left)
        return mean + torch.fft.ifft2(torch.einsum("hwcd,nhwd->nchw", vectors, waves)).real

    return from_function(estimate, kernel.beta[1:], predicts="x0")


class Transported:
    """A model's estimate of x^0 as a reverse of another chain, at the nearest SNR."""

    def __init__(self, work: Work, model: Adapted):
        self.kernel, (self.other, self.reverse) = work.kernel, model
        half = ((work.options.levels - 1) / 2,) * 2
        centre, width = getattr(self.reverse, "scale", half)
        self.factor, self.shift = work.scale[1] / width, (work.scale[0] - centre) / width
        snr, wanted = (torch.logit(k.alpha_bar[2:]) for k in (self.other, self.kernel))
        wanted = wanted - 2 * math.log(self.factor)
        self.near = (snr - wanted[:, None]).abs().argmin(1) + 2

    def __call__(self, xt: Tensor, t: Tensor) -> Normal:
        near, at = self.near[t - 2], self.kernel.at
        x = xt / at(self.kernel.alpha_bar.sqrt(), t, xt) * self.factor + self.shift
        x = x * at(self.other.alpha_bar.sqrt(), near, xt)
        x0 = self.other.x0_given(self.reverse(x, near), x, near)
        q = self.kernel.q_posterior((x0.mean - self.shift) / self.factor, xt, t)
        on_x0 = at(self.kernel.posterior_on_x0, t, xt) / self.factor
        return Normal(q.mean, q.var + on_x0**2 * x0.var)


@torch.no_grad()
def two_phase(work: Work, reference, draws: int) -> tuple[float, float, Tensor, float]:
    """The mean loss of all images, nats: it, its error given the images, by image, and the spread
    that the images' predictions leave. reference, draws: as of ``bits_per_dim``.

    A fold of the images has its regression coefficients from the others, for no bias. Images are
    drawn without replacement, which the error leaves out: it is an upper bound.
    """
    n = len(work.x0)
    fitted = isinstance(reference, str) and reference == "gaussian"
    model = gaussian(work.kernel, work.x0) if fitted else adapted(reference)
    cheap = model.reverse if fitted else Transported(work, model)
    if work.options.proposal is None:
        work.options = replace(work.options, proposal=work.pilot(cheap))
    rows = torch.arange(n).expand(draws, n)
    u, (r,) = _measured(work, rows, [cheap])
    # Both covariates without what u alone explains, whose mean is known.
    z = torch.stack([r, r * u], -1)
    curve = torch.stack([torch.ones_like(u), u - 1 / 2, u**2 - 1 / 3], -1)
    slopes = torch.linalg.lstsq(curve.flatten(0, 1), z.flatten(0, 1)).solution
    z = z - curve[..., 1:] @ slopes[1:]
    image, spread = z.mean(0), z - z.mean(0)
    of_z = torch.einsum("dni,dnj->ij", spread, spread) / (draws * (draws - 1) * n**2)

    first = 0 if work.fixed else 1  # L_0 of an image is one evaluation more
    m = work.options.evaluations // (1 + first)
    passes = [torch.randperm(n, generator=work.generator) for _ in range(-(-m // n))]
    chosen = torch.cat(passes)[:m]
    u, (y, r) = _measured(work, chosen[None], [None, cheap], first)
    u, y, r = u[0], y[0], r[0]
    x = torch.stack([torch.ones_like(u), u, r, r * u, image[chosen, 0]], 1)
    means = image.mean(0)
    expected = torch.stack([torch.tensor(1.0), torch.tensor(0.5), *means, means[0]]).double()
    value, rest, coefficients = torch.zeros(m).double(), torch.zeros(m).double(), []
    for fold in range(FOLDS):
        inside = torch.arange(m) % FOLDS == fold
        b = torch.linalg.lstsq(x[~inside], y[~inside, None], driver="gelsd").solution[:, 0]
        rest[inside] = y[inside] - x[inside] @ b
        value[inside] = rest[inside] + expected @ b
        coefficients.append(b)
    b = torch.stack(coefficients).mean(0)
    error = (float(rest.var()) / m + float(b[2:4] @ of_z @ b[2:4])) ** 0.5
    mean, slope = float(value.mean()), torch.stack([b[2] + b[4], b[3]])
    return mean, error, mean + (image - means) @ slope, float(rest.var())


def _measured(work: Work, rows: Tensor, reverses: list, first: int = 0) -> tuple[Tensor, Tensor]:
    """Places u (d, n) of drawn steps, and losses there of images ``rows`` (d, n), without bias:
    (len(reverses), d, n) nats at the same x^t. reverses: None is the model. first: with its L_0.
    """
    t, weight, u = work.steps(*rows.shape)
    values = torch.zeros(len(reverses), *rows.shape, dtype=torch.float64)
    parts = torch.arange(rows.shape[1]).split(work.options.block)
    for number, (d, part) in enumerate(itertools.product(range(len(rows)), parts)):
        images, one = rows[d, part], torch.ones_like(part)
        xt, x1 = work.noisy(images, t[d, part]), work.noisy(images, one) if first else None
        for k, reverse in enumerate(reverses if mine(number) else ()):
            nats = work.losses(images, t[d, part], xt, reverse)
            values[k, d, part] = work.kernel.sum_event(nats).double().cpu() / weight[d, part]
            if x1 is not None and reverse is None:
                values[k, d, part] += work.kernel.sum_event(work.losses(images, one, x1)).cpu()
    return u, total(values)
