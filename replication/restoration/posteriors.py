"""Parts of an image experiment: pictures of posterior samples (section 2.5), and their errors."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from nonequilibrium.diffusion.sampling import sample
from replication.measure import baselines
from replication.measure.measured import Given, Measured
from replication.restoration.inpaint import centre, hidden, inpaint, left
from replication.restoration.observations import DENOISING, smoothed
from replication.restoration.ways import gain, without_noise

HOLES = {"centre": centre, "right half": left}  # with masks of what is known


def halves(given: Given) -> Measured:
    """Ten digits: the right half filled in from the left, and noise at SNR 1 taken away.

    table halves: a row per strip, columns strip and mean_square (error, data of variance 1). array
    halves: the strips in this order, (strips, 10, c, h, w).
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
    """The paper's figure 3 (a) to (c): test images, noise at SNR 1, posterior samples given that.

    array figure_3: (3, 10, c, h, w). numbers["figure_3"]: mean square errors of (b) and (c).
    """
    test, to_pixels = _test(given, 10), given.model.scale.to_pixels
    truth = given.noisy(test, 6)
    noisy, chain = DENOISING.seen(truth, given.seeded(7)), (given.kernel, given.reverse)
    denoised = without_noise(chain, noisy, [given.its.seed + 8])[0]
    x = {"noisy": noisy, "posterior": denoised}
    error = {f"{name}_mean_square": float((x[name] - truth).square().mean()) for name in x}
    pictures = torch.stack([test, to_pixels(noisy), to_pixels(denoised)])
    return Measured({"figure_3": error}, {}, {"figure_3": pictures})


def inpainting(given: Given) -> Measured:
    """Two holes: six test images filled in by all T steps to look at, more by the thinned chain.

    arrays inpainting_centre, inpainting_right_half: (5, 6, c, h, w), the image, its known part, two
    samples by constant r, one by replacement. numbers["posteriors"]: rows of ``baselines.compare``
    per hole, PSNR over the missing pixels.
    """
    some, seed, arrays, tasks = _test(given, 6), given.its.seed, {}, {}
    for hole, known, truth, drawn, smooth in _holes(given, ("constant", "replacement")):
        filled = inpaint(given.model, some, known, [seed + 10, seed + 11], "constant")
        replaced = inpaint(given.model, some, known, [seed + 12], "replacement")
        shown = [torch.stack([some, hidden(some, known)]), filled, replaced]
        arrays[f"inpainting_{hole.replace(' ', '_')}"] = torch.cat(shown)
        tasks[f"inpainting, {hole}"] = _rows(truth, drawn, {"biharmonic": smooth}, ~known)
    return _compared(given, tasks, arrays)


def guided(given: Given) -> Measured:
    """Two holes filled in by the thinned chain with r through the model, beside the other two ways.

    arrays guided_centre, guided_right_half: (6, 8, c, h, w), the image, its known part, constant r,
    replacement, two samples through the model. numbers["posteriors"]: as of ``inpainting``.
    numbers["gain_over_biharmonic"]: PSNR and SSIM of the mean of samples through the model less
    those of biharmonic inpainting, image by image, with errors.
    """
    arrays, tasks, gains = {}, {}, {}
    for hole, known, truth, drawn, smooth in _holes(given, ("constant", "replacement", "through")):
        tasks[f"inpainting, {hole}"] = _rows(truth, drawn, {"biharmonic": smooth}, ~known)
        mean = drawn["through"].float().mean(0).round().to(torch.uint8)
        gains[hole] = gain(*(baselines.quality(truth, x, ~known) for x in (mean, smooth)))
        held = [drawn[r][0] for r in ("constant", "replacement")]
        rows = [truth, hidden(truth, known), *held, *drawn["through"][:2]]
        arrays[f"guided_{hole.replace(' ', '_')}"] = torch.stack([row[:8] for row in rows])
    return _compared(given, tasks, arrays, gain_over_biharmonic=gains)


def denoising(given: Given) -> Measured:
    """Noise at SNR 1 taken away by the thinned chain, beside non-local means and Wiener filter."""
    scale, truth = given.model.scale, _test(given, given.its.n_posterior)
    clean, noise, drawn = given.noisy(truth, 13), given.seeded(14), {}
    noisy = DENOISING.seen(clean, noise)
    others = smoothed(noisy, given.noisy(given.images.train[:5000], 15), noise)
    others = {name: baselines.denoised_pixels(scale, x) for name, x in others.items()}
    for r in ("constant", "annealed"):
        x = without_noise(given.thin(), noisy, _seeds(given), r == "annealed")
        drawn[r] = scale.to_pixels(x)
    return _compared(given, {"denoising, SNR 1": _rows(truth, drawn, others)}, {})


def _test(given: Given, n: int) -> Tensor:
    """n test images in random order: the order of the file says something about them."""
    test = given.images.test
    return test[torch.randperm(len(test), generator=given.seeded(0))][:n]


def _seeds(given: Given) -> list[int]:
    """Seeds of the posterior samples of each image."""
    return [given.its.seed + 20 + k for k in range(given.its.posterior_samples)]


def _holes(given: Given, ways: tuple[str, ...]) -> Iterator[tuple]:
    """(hole, known, test images, samples of the thinned chain by way, biharmonic inpainting)."""
    truth, seeds, steps = _test(given, given.its.n_posterior), _seeds(given), given.thin_steps
    for hole, mask in HOLES.items():
        known = mask(*given.shape[1:])
        drawn = {r: inpaint(given.model, truth, known, seeds, r, steps) for r in ways}
        yield hole, known, truth, drawn, baselines.biharmonic(truth, known)


def _rows(truth: Tensor, drawn: dict[str, Tensor], others: dict, missing=None) -> list[dict]:
    """Rows of ``baselines.compare``: constant r, then the other methods, then other ways of r."""
    rows = baselines.compare(truth, drawn["constant"], others, missing)
    for r in list(drawn)[1:]:
        more = baselines.compare(truth, drawn[r], {}, missing)
        rows += [row | {"method": f"{row['method']}, {r}"} for row in more]
    return rows


def _compared(given: Given, tasks: dict[str, list[dict]], arrays: dict, **more) -> Measured:
    sizes = {name: getattr(given.its, name) for name in ("n_posterior", "posterior_samples")}
    numbers = {"posteriors": tasks} | sizes | {"thin_steps": given.thin_steps} | more
    return Measured(numbers, {}, arrays)
