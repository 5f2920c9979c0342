"""What image models are compared with: histograms for the bound, well-known ways to fill in and to
denoise for posterior samples.

A density of grey levels that has no network and no t is the least that a bound must beat. Images
are (n, c, h, w) uint8, or x of variance one where noise is involved. The methods for posteriors are
scikit-image's, but for the Wiener filter, which is four lines of Fourier transforms.
"""

from __future__ import annotations

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.restoration import denoise_nl_means, inpaint_biharmonic
from torch import Tensor

from nonequilibrium.data.images import ImageSet, Scale


def _last(images: Tensor) -> np.ndarray:
    """Channels last, as scikit-image has them."""
    return images.movedim(1, -1).numpy()


def biharmonic(pixels: Tensor, known: Tensor) -> Tensor:
    """Biharmonic inpainting of uint8 images where ``known`` (h, w) is false; uint8."""
    hole = ~known.numpy()
    filled = [inpaint_biharmonic(image, hole, channel_axis=-1) for image in _last(pixels / 255.0)]
    result = (
        torch.from_numpy(np.stack(filled))
        .movedim(-1, 1)
        .mul(255)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )
    return torch.where(known, pixels, result)


def non_local_means(noisy: Tensor, sigma: float, h: float) -> Tensor:
    """Non-local means of x with Gaussian noise of standard deviation ``sigma``; h: filter strength
    in units of it.
    """
    options = {"patch_size": 3, "patch_distance": 8, "fast_mode": True, "channel_axis": -1}
    smooth = [
        denoise_nl_means(image, h=h * sigma, sigma=sigma, **options) for image in _last(noisy)
    ]
    return torch.from_numpy(np.stack(smooth)).movedim(-1, 1).to(noisy.dtype)


def wiener(noisy: Tensor, sigma: float, train: Tensor) -> Tensor:
    """The Wiener filter S/(S + σ²) in Fourier space, a channel at a time; S is the mean power
    spectrum of the images x ``train``.
    """
    mean = train.mean(0)
    spectrum = torch.fft.fft2(train - mean).abs().square().mean(0) / mean[0].numel()
    filtered = torch.fft.fft2(noisy - mean) * (spectrum / (spectrum + sigma**2))
    return torch.fft.ifft2(filtered).real + mean


def quality(truth: Tensor, estimate: Tensor, missing: Tensor | None = None) -> dict[str, Tensor]:
    """PSNR (dB) and SSIM of each uint8 image: {"PSNR": (n,), "SSIM": (n,)}.

    missing: (h, w) bool; PSNR then counts these pixels alone. SSIM always sees the whole image.
    """
    error = (truth.float() - estimate.float()).square()
    error = error.flatten(1) if missing is None else error[:, :, missing].flatten(1)
    psnr = 10 * torch.log10(255**2 / error.mean(1).clamp(min=1e-2))
    pairs = zip(_last(truth), _last(estimate), strict=True)
    ssim = [structural_similarity(a, b, channel_axis=-1, data_range=255) for a, b in pairs]
    return {"PSNR": psnr, "SSIM": torch.tensor(ssim)}


def compare(
    truth: Tensor, samples: Tensor, others: dict[str, Tensor], missing: Tensor | None = None
) -> list[dict]:
    """Rows of a table: quality of one posterior sample, of the mean of all, and of other methods,
    averaged over images.

    samples: (k, n, c, h, w) uint8. Each row: {"method", "PSNR", "PSNR_se", "SSIM", "SSIM_se"}.
    """
    mean = samples.float().mean(0).round().to(torch.uint8)
    estimates = {
        "one posterior sample": samples[0],
        f"mean of {len(samples)} samples": mean,
    } | others
    rows = []
    for method, estimate in estimates.items():
        row: dict = {"method": method}
        for name, values in quality(truth, estimate, missing).items():
            row |= {
                name: float(values.mean()),
                f"{name}_se": float(values.std() / len(values) ** 0.5),
            }
        rows.append(row)
    return rows


SMOOTHING = (
    0.01,
    0.03,
    0.1,
    0.3,
    1.0,
    3.0,
    10.0,
    30.0,
    100.0,
    300.0,
    1000.0,
)  # weights of what a histogram is smoothed with
CONTEXTS = (
    1,
    4,
    16,
    64,
    256,
)  # levels to which a neighbour's 256 are rounded, from none of it to all


def _rows(images: Tensor) -> Tensor:
    """Images as rows of whole numbers, (n, c · h · w)."""
    return images.flatten(1).long()


def pixel_histogram(train: Tensor, aside: Tensor, test: Tensor) -> Tensor:
    """Bits per dimension of each test image under a histogram for each pixel and channel, (n,).

    The count that is added to every level is chosen on ``aside``, training images that are not
    counted.
    """
    place = 256 * torch.arange(train[0].numel())
    seen = torch.zeros(256 * len(place), dtype=torch.int64)
    for part in train.split(5000):
        seen += torch.bincount((_rows(part) + place).flatten(), minlength=256 * len(place))
    counts = seen.reshape(-1, 256).double()

    def score(images: Tensor, added: float) -> Tensor:
        cost = -torch.log2((counts + added) / (counts.sum(1, keepdim=True) + 256 * added)).flatten()
        return torch.cat([cost[_rows(part) + place].mean(1) for part in images.split(1000)])

    best = min(SMOOTHING, key=lambda added: float(score(aside, added).mean()))
    return score(test, best)


def _neighbours(images: Tensor) -> tuple[Tensor, Tensor]:
    """The pixel to the left and the one above, of the same channel; 0 outside of the image."""
    left, above = torch.zeros_like(images), torch.zeros_like(images)
    left[..., 1:], above[..., 1:, :] = images[..., :-1], images[..., :-1, :]
    return left, above


def two_neighbours(train: Tensor, aside: Tensor, test: Tensor, levels: int = 256) -> Tensor:
    """Bits per dimension of each test image under a histogram given the left and the upper
    neighbour, (n,).

    levels: grey levels that a neighbour is rounded to. A context that was seldom seen leans on the
    same with its neighbours rounded to fewer levels, down to no context at all. How much it leans
    is chosen on ``aside``, training images that are not counted, for each rounding in turn. Each
    channel has histograms of its own.
    """
    contexts = [c for c in CONTEXTS if c <= levels]
    channels = range(train.shape[1])
    return torch.stack(
        [_two_neighbours(train[:, [c]], aside[:, [c]], test[:, [c]], contexts) for c in channels]
    ).mean(0)


def _two_neighbours(train: Tensor, aside: Tensor, test: Tensor, contexts: list[int]) -> Tensor:
    def index(images: Tensor, levels: int) -> Tensor:
        left, above = ((part.int() * levels) // 256 for part in _neighbours(images))
        return ((left * levels + above) * 256 + images.int()).flatten(1)

    def score(images: Tensor, law: Tensor, levels: int) -> Tensor:
        return torch.cat(
            [-torch.log2(law.flatten()[index(part, levels)]).mean(1) for part in images.split(1000)]
        )

    law = torch.full((1, 1, 256), 1 / 256)
    for levels in contexts:
        counts = torch.zeros(levels * levels * 256)
        for part in train.split(5000):
            counts += torch.bincount(index(part, levels).flatten(), minlength=len(counts))
        counts = counts.reshape(levels, levels, 256)
        times = levels // len(law)
        coarse = law.repeat_interleave(times, 0).repeat_interleave(times, 1)
        seen = counts.sum(2, keepdim=True)

        def leaning(weight: float, counts=counts, coarse=coarse, seen=seen) -> Tensor:
            return (counts + weight * coarse) / (seen + weight)

        best = min(
            SMOOTHING, key=lambda weight: float(score(aside, leaning(weight), levels).mean())
        )
        law = leaning(best)
    return score(test, law, contexts[-1])


def histograms(images: ImageSet, aside: int) -> dict[str, Tensor]:
    """Bits per dimension of each test image, {name: (n,)}; the last ``aside`` training images
    choose the smoothing.
    """
    parts = images.train[:-aside], images.train[-aside:], images.test
    return {
        "a histogram for each pixel": pixel_histogram(*parts),
        "a histogram given left and upper pixel, rounded to 16 levels": two_neighbours(
            *parts, levels=16
        ),
        "a histogram given left and upper pixel": two_neighbours(*parts),
    }


def denoised_pixels(scale: Scale, x: Tensor) -> Tensor:
    """x to the nearest uint8 pixels: half a grey level less than x, which carries noise of mean
    half a level.
    """
    return (x * scale.sigma + scale.mean - 0.5).round().clamp(0, 255).to(torch.uint8)
