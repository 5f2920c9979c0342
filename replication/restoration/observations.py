"""Observations of images, y = A x^0 + noise, and other methods that guess x^0 from them.

Images are uint8 (n, c, h, w), x has variance one. The other methods are those of libraries; BM3D
(package ``bm3d``) is free for non-commercial use.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.metrics import structural_similarity
from skimage.restoration import denoise_nl_means
from torch import Tensor, nn
from torch.nn import functional as F

from nonequilibrium.data.images import Scale
from nonequilibrium.diffusion.evidence import Blur, Downsample, Mask
from replication.measure.metrics import seeded
from replication.restoration import holes
from replication.restoration.inpaint import centre, left

WORDS = ("r (x)", "= 1 ?", "p q r", "t = 0")  # written over an image
SHARE = 0.8  # of the pixels that are missing at random
ROUNDING = 1e-4  # variance of rounding: a grey level of CIFAR-10 is 0.016 standard deviations
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3)  # of non-local means, of which training images choose one
WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
WANG |= {"data_range": 255, "channel_axis": -1}
BM3D_BLOCK = 8  # pixels; the library ends the process on images that are not larger
NO_BM3D = "bm3d is not installed, so BM3D is left out; `pip install nonequilibrium[measure]`"


def strokes(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: four lines of writing hide the rest."""
    canvas = Image.new("1", (width, height), 1)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(max(6, height // 3))
    for number, word in enumerate(WORDS):
        pen.text((0, round(number * height / len(WORDS)) - height // 16), word, fill=0, font=font)
    return torch.from_numpy(np.asarray(canvas).copy())


def scattered(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: a fifth of the pixels, drawn once."""
    return torch.rand(height, width, generator=seeded(0)) >= SHARE


MASKS = {"centre": centre, "right half": left, "thin strokes": strokes, "80 % at random": scattered}


def _last(images: Tensor) -> np.ndarray:
    """Channels last, as in scikit-image."""
    return images.movedim(1, -1).numpy()


def denoised_pixels(scale: Scale, x: Tensor) -> Tensor:
    """x, which carries noise of mean half a grey level, to the nearest uint8 pixels."""
    return (x * scale.sigma + scale.mean - 0.5).round().clamp(0, 255).to(torch.uint8)


class Task(NamedTuple):
    """One kind of observation, A x^0 with noise of variance ``var``; A is None for the identity."""

    A: Any  # a ``Linear``
    var: float
    known: Tensor | None = None  # (h, w) bool where A is a mask

    def seen(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """y of x^0 (n, c, h, w)."""
        y = x if self.A is None else self.A(x)
        if self.known is not None:
            return y
        return y + self.var**0.5 * torch.randn(y.shape, generator=generator)

    def shown(self, y: Tensor, scale: Scale, shape: torch.Size) -> Tensor:
        """y as pictures (n, c, h, w) uint8 of the images' size, missing pixels in grey."""
        pixels = denoised_pixels(scale, F.interpolate(y, shape, mode="nearest"))
        return pixels if self.known is None else torch.where(self.known, pixels, 128)


DENOISING = Task(None, 1.0)  # a signal-to-noise ratio of 1


def tasks(height: int, width: int) -> dict[str, Task]:
    """Every kind of observation of images of this size, by name."""
    masks = {f"inpainting, {name}": mask(height, width) for name, mask in MASKS.items()}
    found = {name: Task(Mask(known), 0.0, known) for name, known in masks.items()}
    factor = 4 if height % 4 == 0 and height > 16 else 2
    found[f"{factor}× super-resolution"] = Task(Downsample(factor), ROUNDING)
    found["blur of 1.5 pixels"] = Task(Blur(1.5), 0.01)
    return found | {"denoising, SNR 1": DENOISING}


def others(
    task: Task, test: Tensor, y: Tensor, scale: Scale, train: Tensor, generator
) -> tuple[dict[str, Tensor], str]:
    """Images (n, c, h, w) uint8 given y by other methods, and what is left out, or "".

    test: uint8, of which only known pixels are used. train: x of training images.
    """
    left_out, shape = "", test.shape[-2:]
    linear = wiener(y, task.A or nn.Identity(), max(task.var, ROUNDING), train)
    if task.known is not None:
        filled = [holes.others(image, ~task.known) for image in test]
        names, left_out = filled[0]
        theirs = {name: torch.stack([row[name] for row, _ in filled]) for name in names}
        guess = torch.where(task.known, test, denoised_pixels(scale, linear))
        return theirs | {"Wiener filter": guess}, left_out
    if isinstance(task.A, Downsample):
        found = {"blocks as they are": F.interpolate(y, shape, mode="nearest")}
        found["bicubic"] = F.interpolate(y, shape, mode="bicubic", align_corners=False)
    elif task.A is None:
        found, left_out = bm3d(y, task.var**0.5)
        found |= smoothed(y, train, generator)
    else:
        found = {"the blurred image itself": y}
    found["Wiener filter"] = linear
    return {name: denoised_pixels(scale, x) for name, x in found.items()}, left_out


def wiener(y: Tensor, A: Callable[[Tensor], Tensor], var: float, train: Tensor) -> Tensor:
    """The best linear estimate of x^0 (n, c, h, w) given y, C A^T (A C A^T + σ²)^{-1} (y − A mean).

    C is the covariance of all values of ``train``, of every pixel and channel with every other.
    """
    mean = train.mean(0)
    x = (train - mean).flatten(1)
    covariance = (x.mT @ x / len(x)).reshape(-1, *mean.shape)
    seen = A(covariance)  # a row for each value of x^0
    S = A(seen.flatten(1).mT.reshape(-1, *mean.shape)).flatten(1)
    off = (y - A(mean[None])).flatten(1)
    weights = torch.linalg.solve(S + var * torch.eye(len(S)), off.mT)
    return mean + (seen.flatten(1) @ weights).mT.reshape(-1, *mean.shape)


def bm3d(noisy: Tensor, sigma: float) -> tuple[dict[str, Tensor], str]:
    """x without noise of deviation ``sigma`` by BM3D: ({"BM3D": x}, what is left out, or "")."""
    try:
        module = importlib.import_module("bm3d")  # an extra, so a type checker may not find it
    except ImportError:
        return {}, NO_BM3D
    if min(noisy.shape[-2:]) <= BM3D_BLOCK:
        return {}, "the images are no larger than a block of BM3D, so it is left out"
    clean, profile = [], module.BM3DProfile()
    profile.num_threads = 1  # with more, no two results are equal
    for image in noisy.double().movedim(1, -1).numpy():
        # The package assumes a range of 0..1 for its change of colour space, which is linear.
        low, high = image.min(), image.max()
        unit, grey = (image - low) / (high - low), image.shape[-1] == 1
        arguments = (unit[..., 0] if grey else unit), sigma / (high - low), profile
        out = np.asarray((module.bm3d if grey else module.bm3d_rgb)(*arguments))
        clean.append(out.reshape(image.shape) * (high - low) + low)
    return {"BM3D": torch.from_numpy(np.stack(clean)).movedim(-1, 1).to(noisy.dtype)}, ""


def non_local_means(noisy: Tensor, sigma: float, h: float) -> Tensor:
    """Non-local means of x with noise of standard deviation sigma; h: strength in units of it."""
    options = {"patch_size": 3, "patch_distance": 8, "fast_mode": True, "channel_axis": -1}
    smooth = partial(denoise_nl_means, h=h * sigma, sigma=sigma, **options)
    clean = np.stack([smooth(image) for image in _last(noisy)])
    return torch.from_numpy(clean).movedim(-1, 1).to(noisy.dtype)


def smoothed(noisy: Tensor, train: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """x with noise of variance 1, and non-local means of it, whose strength ``train`` chooses."""
    clean = train[:20]
    trial = clean + torch.randn(clean.shape, generator=generator)

    def error(h: float) -> float:
        return float((non_local_means(trial, 1.0, h) - clean).square().mean())

    smooth = non_local_means(noisy, 1.0, min(STRENGTHS, key=error))
    return {"non-local means": smooth, "the noisy image itself": noisy}


def scores(truth: Tensor, estimate: Tensor, known: Tensor | None) -> dict[str, Tensor]:
    """PSNR (dB) of what is not known, SSIM, and the spectrum's root mean square error (dB), (n,).

    SSIM has the settings of Wang et al. (2004): a Gaussian window of 1.5 pixels, no unbiasing.
    """
    error = (truth.float() - estimate.float()).square()
    error = error.flatten(1) if known is None else error[:, :, ~known].flatten(1)
    psnr = 10 * torch.log10(255**2 / error.mean(1).clamp(min=1e-2))
    pairs = zip(*map(_last, (truth, estimate)), strict=True)
    ssim = [structural_similarity(a, b, **WANG) for a, b in pairs]
    spectra = ((holes.spectrum(a), holes.spectrum(b)) for a, b in zip(truth, estimate, strict=True))
    off = torch.stack([(a - b).square().mean().sqrt() for a, b in spectra])
    return {"PSNR": psnr, "SSIM": torch.tensor(ssim), "spectrum": off}
