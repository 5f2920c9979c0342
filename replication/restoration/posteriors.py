"""Parts of an image experiment: pictures of posterior samples (section 2.5), and their errors."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from nonequilibrium.diffusion.sampling import sample
from replication.measure.measured import Given, Measured
from replication.restoration.inpaint import left
from replication.restoration.observations import DENOISING
from replication.restoration.ways import drawn


def halves(given: Given) -> Measured:
    """Ten digits: the right half filled in from the left, and noise at SNR 1 taken away.

    table halves: a row per strip, and its mean_square error. array halves: (strips, 10, c, h, w).
    """
    truth, known = given.noisy(given.images.test[:10], 6), left(*given.shape[1:])
    noisy = DENOISING.seen(truth, given.seeded(7))

    def posterior(r, number: int) -> Tensor:
        draws, options = given.seeded(8 + number), {"r": r, "dtype": torch.float32}
        return sample(given.kernel, given.reverse, truth.shape, draws, **options)

    strips = {
        "held-out": truth,
        "known left half": torch.where(known, truth, truth.min()),
        "filled right half, sample 1": posterior(Inpaint(truth, known), 0),
        "filled right half, sample 2": posterior(Inpaint(truth, known), 1),
        "filled right half, replacement": posterior(Inpaint(truth, known, annealed=True), 2),
        "SNR 1": noisy,
        "denoised": posterior(Denoise(noisy, 1.0), 3),
        "denoised, annealed": posterior(Denoise(noisy, 1.0, annealed=True), 4),
    }
    error = [float((x - truth).square().mean()) for x in strips.values()]
    pictures = torch.stack([given.model.scale.to_pixels(x) for x in strips.values()])
    table = pd.DataFrame({"strip": list(strips), "mean_square": error})
    return Measured({}, {"halves": table}, {"halves": pictures})


def figure_3(given: Given) -> Measured:
    """The paper's figure 3 (a) to (c): test images, noise at SNR 1, posterior samples."""
    test, to_pixels = given.images.test, given.model.scale.to_pixels
    test = test[torch.randperm(len(test), generator=given.seeded(0))][:10]  # the file is ordered
    truth, chain = given.noisy(test, 6), (given.kernel, given.reverse)
    noisy, seeds = DENOISING.seen(truth, given.seeded(7)), [given.settings.seed + 8]
    denoised = drawn(chain, noisy, seeds, lambda part: Denoise(noisy[part], 1.0))[0]
    x = {"noisy": noisy, "posterior": denoised}
    error = {f"{name}_mean_square": float((x[name] - truth).square().mean()) for name in x}
    pictures = torch.stack([test, to_pixels(noisy), to_pixels(denoised)])
    return Measured({"figure_3": error}, {}, {"figure_3": pictures})
