"""What posterior samples are compared with: well-known ways to fill in and to denoise an image, and two measures of quality.

Images are (n, c, h, w) uint8, or x of variance one where noise is involved. The methods are scikit-image's, but for the Wiener
filter, which is four lines of Fourier transforms.
"""

from __future__ import annotations

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.restoration import denoise_nl_means, inpaint_biharmonic
from torch import Tensor

from nonequilibrium.data.images import Scale


def _last(images: Tensor) -> np.ndarray:
    """Channels last, as scikit-image has them."""
    return images.movedim(1, -1).numpy()


def biharmonic(pixels: Tensor, known: Tensor) -> Tensor:
    """Biharmonic inpainting of uint8 images where ``known`` (h, w) is false; uint8."""
    hole = ~known.numpy()
    filled = [inpaint_biharmonic(image, hole, channel_axis=-1) for image in _last(pixels / 255.0)]
    result = torch.from_numpy(np.stack(filled)).movedim(-1, 1).mul(255).round().clamp(0, 255).to(torch.uint8)
    return torch.where(known, pixels, result)


def non_local_means(noisy: Tensor, sigma: float, h: float) -> Tensor:
    """Non-local means of x with Gaussian noise of standard deviation ``sigma``; h: filter strength in units of it."""
    options = {"patch_size": 3, "patch_distance": 8, "fast_mode": True, "channel_axis": -1}
    smooth = [denoise_nl_means(image, h=h * sigma, sigma=sigma, **options) for image in _last(noisy)]
    return torch.from_numpy(np.stack(smooth)).movedim(-1, 1).to(noisy.dtype)


def wiener(noisy: Tensor, sigma: float, train: Tensor) -> Tensor:
    """The Wiener filter S/(S + σ²) in Fourier space, a channel at a time; S is the mean power spectrum of the images x ``train``."""
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


def compare(truth: Tensor, samples: Tensor, others: dict[str, Tensor], missing: Tensor | None = None) -> list[dict]:
    """Rows of a table: quality of one posterior sample, of the mean of all, and of other methods, averaged over images.

    samples: (k, n, c, h, w) uint8. Each row: {"method", "PSNR", "PSNR_se", "SSIM", "SSIM_se"}.
    """
    mean = samples.float().mean(0).round().to(torch.uint8)
    estimates = {"one posterior sample": samples[0], f"mean of {len(samples)} samples": mean} | others
    rows = []
    for method, estimate in estimates.items():
        row = {"method": method}
        for name, values in quality(truth, estimate, missing).items():
            row |= {name: float(values.mean()), f"{name}_se": float(values.std() / len(values) ** 0.5)}
        rows.append(row)
    return rows


def denoised_pixels(scale: Scale, x: Tensor) -> Tensor:
    """x to the nearest uint8 pixels: half a grey level less than x, which carries noise of mean half a level."""
    return (x * scale.sigma + scale.mean - 0.5).round().clamp(0, 255).to(torch.uint8)
