"""The cost of an image under a model in the unit of the later papers' tables, bits/dim."""

from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nonequilibrium.adapters.checks import check
from nonequilibrium.adapters.reference import two_phase
from nonequilibrium.adapters.work import Options, Work
from nonequilibrium.bound.bound import bits, mean_se
from nonequilibrium.bound.checks import check_count
from nonequilibrium.diffusion.kernels import GaussianKernel


class Cost(NamedTuple):
    """Bits/dim of held-out images, smaller is better; ``print`` shows both errors."""

    bits_per_dim: float  # the mean over the images
    se: float  # its standard error over images, assumed independent, and Monte Carlo together
    mc_se: float  # its standard error by Monte Carlo alone, given these images
    per_example: Tensor  # (n,)
    matrix: Any  # (n, T + 1), lost by an image from x^t to x^{t−1}; unbiased; column 0 is zero
    by_step: Any  # its mean over the images
    rest: float  # that no step loses: L_T for the last step "levels", both ends for "fixed"
    map: Any  # (n, c, h, w), bits of each value of an image; their sum is the image's
    refined: tuple[float, float] | None  # what twice as many levels would change, and its error

    def __str__(self) -> str:
        cost = f"{self.bits_per_dim:.4f} ± {self.se:.4f} bits/dim"
        more = f"; twice as many levels: {self.refined[0]:+.4f}" if self.refined else ""
        return f"{cost} (Monte Carlo alone ± {self.mc_se:.4f}{more})"


def bits_per_dim(
    model, images, draws: int | None = 20, given=None, reference=None, **options
) -> Cost:
    """Bits/dim of held-out images under a model, an upper bound on their cost, with both errors.

    model: a kernel and a reverse, or a model that ``adapted`` knows. images: see ``as_levels``.
    draws: steps t per image and replicate, drawn by importance from a short pilot; None: all T.
    given: labels or another tensor (n, ...), or several by name, for a network that is conditional.
    reference: another model, or "gaussian" for one fitted to the images, that is measured on all of
        them, by ``draws`` steps each, while the model is evaluated ``evaluations`` times in all
        (300), see ``two_phase``. From about 100 images on, ± 2 errors cover as they say.
    options: those of ``Options``. Raises AdapterError, BoundError.
    """
    known = [field.name for field in fields(Options)]
    for name in options:
        check(name in known, name, "is unknown", f"one of {', '.join(known)}")
    work = Work(model, images, given, Options(**options))
    if work.options.proposal is None:
        work.options = replace(work.options, proposal=getattr(work.reverse, "proposal", None))
    dims, offset = work.x0[0].numel(), work.offset
    if reference is not None:
        return _by_reference(work, reference, check_count("draws", draws, 2))
    if draws is not None and check_count("draws", draws) and work.options.proposal is None:
        work.options = replace(work.options, proposal=work.pilot())
    bound, every = work.bound(draws)
    per_example, matrix = offset - bits(bound.per_example) / dims, bits(bound.kl) / dims
    mean, by_step = float(per_example.mean()), matrix.mean(0)
    errors, rest = (bits(bound.se) / dims, bits(bound.mc_se) / dims), mean - float(by_step.sum())
    refined = None
    if getattr(work.reverse, "variance", None) == "fixed_small":
        refined = refinement(work.kernel, matrix)
    return Cost(mean, *errors, per_example, matrix, by_step, rest, offset + bits(every), refined)


def _by_reference(work: Work, reference, draws: int) -> Cost:
    dims = work.x0[0].numel()
    mean, error, images, left = two_phase(work, reference, draws)
    per_example = work.offset + bits(images - work.kernel.sum_event(work.ends())) / dims
    spread = float(per_example.var()) + left * bits(1 / dims) ** 2
    mc_se, cost = bits(error) / dims, float(per_example.mean())
    se = (mc_se**2 + spread / len(images)) ** 0.5
    return Cost(cost, se, mc_se, per_example, None, None, cost - bits(mean) / dims, None, None)


def refinement(kernel: GaussianKernel, matrix: Tensor) -> tuple[float, float]:
    """What a level midway in log SNR between each two would change, by the trapezoidal rule: with
    the posterior's variance a step loses half of SNR_{t−1} − SNR_t times the square error of the
    estimate of x^0 at t (Kingma et al. 2021), which is interpolated between levels.
    """
    snr = (kernel.alpha_bar / kernel.one_minus_alpha_bar)[1:]
    loss = matrix[:, 2:] / (snr[:-1] - snr[1:])  # half the square error, by level t ≥ 2
    change = torch.diff(loss, prepend=2 * loss[:, :1] - loss[:, 1:2]) if len(snr) > 2 else 0 * loss
    gain = snr[:-1] - (snr[:-1] * snr[1:]).sqrt()
    return mean_se((-change * gain / 2).sum(1))
