"""Posterior samples of an image model (section 2.5): pictures of them, and how near they come to
the truth.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from nonequilibrium.diffusion.sampling import sample, sample_each
from replication.measure import baselines
from replication.measure.measured import Given, Measured
from replication.restoration.inpaint import GREY, centre, inpaint, left

HOLES = {"centre": centre, "right half": left}  # what is filled in, with the mask of what is known
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3)  # of non-local means, of which training images choose one


def _test(given: Given) -> Tensor:
    """The test images in another order than the file's, which says something about them."""
    test = given.images.test
    return test[torch.randperm(len(test), generator=given.seeded(0))]


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """x with Gaussian noise of variance 1, which is that of the data."""
    return x + torch.randn(x.shape, generator=generator)


def halves(given: Given) -> Measured:
    """Ten digits: the right half filled in from the left, and noise at SNR 1 taken away.

    table halves: a row a strip, columns strip and mean_square (error, data of variance 1). array
    halves: the strips in this order, (strips, 10, c, h, w).
    """
    truth = given.noisy(given.images.test[:10], 6)
    known = left(*given.shape[1:])
    noisy = _noise(truth, given.seeded(7))

    def posterior(r, number: int) -> Tensor:
        draws = given.seeded(8 + number)
        return sample(given.kernel, given.reverse, truth.shape, draws, r=r, dtype=torch.float32)

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
    """The paper's figure 3 (a) to (c): ten test images, noise at SNR 1, posterior samples given the
    noisy images.

    array figure_3: (3, 10, c, h, w). numbers["figure_3"]: mean square errors of (b) and (c), data
    of variance 1.
    """
    test = _test(given)[:10]
    truth = given.noisy(test, 6)
    noisy = _noise(truth, given.seeded(7))
    posterior = _denoised(given, noisy, (given.kernel, given.reverse), given.its.seed + 8)
    error = {
        name: float((x - truth).square().mean())
        for name, x in {"noisy": noisy, "posterior": posterior}.items()
    }
    to_pixels = given.model.scale.to_pixels
    pictures = torch.stack([test, to_pixels(noisy), to_pixels(posterior)])
    return Measured(
        {"figure_3": {f"{name}_mean_square": value for name, value in error.items()}},
        {},
        {"figure_3": pictures},
    )


def inpainting(given: Given) -> Measured:
    """Two holes: six test images filled in by all T steps to look at, and more of them by the
    thinned chain to compare.

    arrays inpainting_centre, inpainting_right_half: (5, 6, c, h, w), the image, what is known of
    it, two samples by constant r, one by replacement. numbers["posteriors"]: rows of
    ``baselines.compare`` for each hole, PSNR over the missing pixels.
    """
    model, its, test = given.model, given.its, _test(given)
    some, truth = test[:6], test[: its.n_posterior]
    arrays, tasks = {}, {}
    for hole, mask in HOLES.items():
        known = mask(*given.shape[1:])
        filled = inpaint(model, some, known, [its.seed + 10, its.seed + 11], "constant")
        replaced = inpaint(model, some, known, [its.seed + 12], "replacement")
        hidden = torch.where(known, some, torch.tensor(GREY, dtype=torch.uint8))
        arrays[f"inpainting_{hole.replace(' ', '_')}"] = torch.cat(
            [torch.stack([some, hidden]), filled, replaced]
        )
        drawn = {
            r: inpaint(model, truth, known, _seeds(given), r, given.thin_steps)
            for r in ("constant", "replacement")
        }
        others = {"biharmonic": baselines.biharmonic(truth, known)}
        tasks[f"inpainting, {hole}"] = _rows(truth, drawn, others, ~known)
    return Measured(_compared(given, tasks), {}, arrays)


def guided(given: Given) -> Measured:
    """Two holes filled in by the thinned chain with r that looks through the model, beside the two
    ways of ``inpainting``.

    arrays guided_centre, guided_right_half: (6, 8, c, h, w), the image, what is known of it,
    constant r, replacement, two samples through the model. numbers["posteriors"]: as there, on the
    first of the same images. numbers["gain_over_biharmonic"]: PSNR and SSIM of the mean of samples
    through the model less those of biharmonic inpainting, image by image, with errors.
    """
    model, truth = given.model, _test(given)[: given.its.n_posterior]
    arrays, tasks, gains = {}, {}, {}
    for hole, mask in HOLES.items():
        known = mask(*given.shape[1:])
        ways = ("constant", "replacement", "through")
        drawn = {r: inpaint(model, truth, known, _seeds(given), r, given.thin_steps) for r in ways}
        smooth = baselines.biharmonic(truth, known)
        tasks[f"inpainting, {hole}"] = _rows(truth, drawn, {"biharmonic": smooth}, ~known)
        mean = drawn["through"].float().mean(0).round().to(torch.uint8)
        ours, theirs = (baselines.quality(truth, filled, ~known) for filled in (mean, smooth))
        gains[hole] = {key: _mean_and_se(ours[key] - theirs[key]) for key in ours}
        hidden = torch.where(known, truth, torch.tensor(GREY, dtype=torch.uint8))
        rows = [truth, hidden, drawn["constant"][0], drawn["replacement"][0], *drawn["through"][:2]]
        arrays[f"guided_{hole.replace(' ', '_')}"] = torch.stack([row[:8] for row in rows])
    return Measured({**_compared(given, tasks), "gain_over_biharmonic": gains}, {}, arrays)


def _mean_and_se(values: Tensor) -> dict[str, float]:
    return {"mean": float(values.mean()), "se": float(values.std()) / len(values) ** 0.5}


def denoising(given: Given) -> Measured:
    """Noise at SNR 1 taken away by posterior samples of the thinned chain, beside non-local means
    and the Wiener filter.
    """
    scale = given.model.scale
    truth = _test(given)[: given.its.n_posterior]
    clean, noise = given.noisy(truth, 13), given.seeded(14)
    noisy = _noise(clean, noise)
    training = given.noisy(given.images.train[:5000], 15)
    trial = _noise(training[:20], noise)

    def error(h: float) -> float:
        return float((baselines.non_local_means(trial, 1.0, h) - training[:20]).square().mean())

    others = {
        "non-local means": baselines.non_local_means(noisy, 1.0, min(STRENGTHS, key=error)),
        "Wiener filter": baselines.wiener(noisy, 1.0, training),
        "Wiener filter, colours together": baselines.wiener(noisy, 1.0, training, together=True),
        "the noisy image itself": noisy,
    }
    others = {name: baselines.denoised_pixels(scale, x) for name, x in others.items()}
    drawn = {
        r: torch.stack(
            [
                scale.to_pixels(_denoised(given, noisy, given.thin(), seed, r))
                for seed in _seeds(given)
            ]
        )
        for r in ("constant", "annealed")
    }
    return Measured(_compared(given, {"denoising, SNR 1": _rows(truth, drawn, others)}))


def _denoised(given: Given, noisy: Tensor, chain: tuple, seed: int, r: str = "constant") -> Tensor:
    """One posterior sample of each image given ``noisy``, by the steps of ``chain``."""

    def factor(part: Tensor, _) -> Denoise:
        return Denoise(noisy[part], 1.0, annealed=r == "annealed")

    kernel, reverse = chain
    return sample_each(kernel, reverse, len(noisy), given.shape, seed, factor)


def _seeds(given: Given) -> list[int]:
    """Seeds of the posterior samples of each image."""
    first = given.its.seed + 20
    return list(range(first, first + given.its.posterior_samples))


def _rows(
    truth: Tensor, drawn: dict[str, Tensor], others: dict, missing: Tensor | None = None
) -> list[dict]:
    """Rows of ``baselines.compare``: samples by constant r, then the other methods, then samples by
    other ways that r enters.
    """
    rows = []
    for r, samples in drawn.items():
        first = r == "constant"
        more = baselines.compare(truth, samples, others if first else {}, missing)
        rows += [row if first else row | {"method": f"{row['method']}, {r}"} for row in more]
    return rows


def _compared(given: Given, tasks: dict[str, list[dict]]) -> dict:
    its = given.its
    return {
        "posteriors": tasks,
        "n_posterior": its.n_posterior,
        "posterior_samples": its.posterior_samples,
        "thin_steps": given.thin_steps,
    }
