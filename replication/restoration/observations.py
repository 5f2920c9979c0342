"""What is seen of images, y = A x^0 + noise, and the other ways to guess x^0 from it.

A hides a part (a mask), takes means of blocks, blurs, or does nothing, with noise. Images are uint8
(n, c, h, w), x has variance one. The other ways are libraries': scikit-image, OpenCV, PyTorch's
bicubic interpolation, and BM3D (package ``bm3d``, which is free for non-commercial use) where it is
installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.data.images import Scale
from nonequilibrium.diffusion.evidence import Blur, Downsample, Mask
from replication.measure import baselines
from replication.restoration.holes import others, spectrum
from replication.restoration.inpaint import centre, left

NO_BM3D = "bm3d is not installed, so BM3D is left out; `pip install nonequilibrium[measure]`"
WORDS = ("r (x)", "= 1 ?", "p q r", "t = 0")  # written over an image
SHARE = 0.8  # of the pixels that are missing at random
ROUNDING = 1e-4  # variance of the noise where there is none but rounding: a grey level of CIFAR-10 is 0.016 standard deviations
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3)  # of non-local means, of which training images choose one
DENOISING = "denoising, SNR 1"


def strokes(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: four lines of writing in thin strokes hide the rest."""
    canvas = Image.new("1", (width, height), 1)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(max(6, height // 3))
    for number, word in enumerate(WORDS):
        pen.text((0, round(number * height / len(WORDS)) - height // 16), word, fill=0, font=font)
    return torch.from_numpy(np.asarray(canvas).copy())


def scattered(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: a fifth of the pixels, drawn once."""
    return torch.rand(height, width, generator=torch.Generator().manual_seed(0)) >= SHARE


@dataclass(frozen=True)
class Task:
    """One kind of observation. A: what is seen of x. var: of its noise. known: (h, w) bool where A
    is a mask.
    """

    name: str
    A: Any  # a ``Linear``, or None where x itself is seen
    var: float
    known: Any = None  # Tensor or None

    @property
    def missing(self) -> Tensor | None:
        """Pixels over which PSNR counts, (h, w) bool; None for all."""
        return None if self.known is None else ~self.known

    def seen(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """y of x^0 (n, c, h, w)."""
        Ax = x if self.A is None else self.A(x)
        return (
            Ax
            if self.known is not None
            else Ax + self.var**0.5 * torch.randn(Ax.shape, generator=generator)
        )

    def shown(self, y: Tensor, scale: Scale, shape: tuple[int, int], grey: int = 128) -> Tensor:
        """y as pictures (n, c, h, w) uint8 of the images' size, missing pixels in one grey."""
        pixels = baselines.denoised_pixels(scale, F.interpolate(y, shape, mode="nearest"))
        return (
            pixels
            if self.known is None
            else torch.where(self.known, pixels, torch.tensor(grey, dtype=torch.uint8))
        )


def tasks(height: int, width: int) -> dict[str, Task]:
    """Every kind of observation of images of this size, by name."""
    holes = {
        "centre": centre,
        "right half": left,
        "thin strokes": strokes,
        "80 % at random": scattered,
    }
    found = []
    for name, mask in holes.items():
        known = mask(height, width)
        found.append(Task(f"inpainting, {name}", Mask(known), 0.0, known))
    factor = 4 if height % 4 == 0 and height > 16 else 2
    found.append(Task(f"{factor}× super-resolution", Downsample(factor), ROUNDING))
    found.append(Task("blur of 1.5 pixels", Blur(1.5), 0.01))
    found.append(Task(DENOISING, None, 1.0))
    return {task.name: task for task in found}


def filled(truth: Tensor, known: Tensor) -> tuple[dict[str, Tensor], str]:
    """Holes filled by methods that have learned nothing, as ``holes.others`` of each image."""
    found = [others(image, ~known) for image in truth]
    return {name: torch.stack([each[name] for each, _ in found]) for name in found[0][0]}, found[0][
        1
    ]


def enlarged(y: Tensor, scale: Scale, shape: tuple[int, int]) -> dict[str, Tensor]:
    """Means of blocks brought back to the images' size, uint8: blocks as they are, and bicubic."""
    modes: dict[str, dict] = {
        "blocks as they are": {"mode": "nearest"},
        "bicubic": {"mode": "bicubic", "align_corners": False},
    }
    return {
        name: baselines.denoised_pixels(scale, F.interpolate(y, shape, **options))
        for name, options in modes.items()
    }


def sharpened(y: Tensor, A: Blur, var: float, train: Tensor) -> Tensor:
    """Wiener deconvolution of x blurred by A with noise: S H*/(|H|² S + σ²) in Fourier space, S the
    mean spectrum of x ``train``.

    It takes images for periodic, which A does not.
    """
    mean = train.mean(0)
    spectrum = torch.fft.fft2(train - mean).abs().square().mean(0) / mean[0].numel()
    point = torch.zeros_like(mean)[None]
    h, w = mean.shape[-2:]
    point[..., h // 2, w // 2] = 1
    H = torch.fft.fft2(torch.roll(A(point), (-(h // 2), -(w // 2)), (-2, -1)))
    gain = spectrum * H.conj() / (H.abs().square() * spectrum + var)
    return torch.fft.ifft2(gain * torch.fft.fft2(y - A(mean[None]))).real + mean


def bm3d(noisy: Tensor, sigma: float) -> tuple[dict[str, Tensor], str]:
    """x with noise of standard deviation ``sigma`` denoised by BM3D: ({"BM3D": x}, what is left out
    and why, or "").
    """
    try:
        module = importlib.import_module("bm3d")  # an extra, so a type checker may not find it
    except ImportError:
        return {}, NO_BM3D
    clean = []
    for image in noisy.double().movedim(1, -1).numpy():
        grey = image.shape[-1] == 1
        # For colour the package takes the range 0..1 for granted in its change of colour space,
        # which is linear: a shift is enough.
        low, high = image.min(), image.max()
        unit = (image - low) / (high - low)
        way: Callable = module.bm3d if grey else module.bm3d_rgb
        out = way(unit[..., 0] if grey else unit, sigma / (high - low))
        clean.append(np.asarray(out).reshape(image.shape) * (high - low) + low)
    return {"BM3D": torch.from_numpy(np.stack(clean)).movedim(-1, 1).to(noisy.dtype)}, ""


def denoised(
    noisy: Tensor, train: Tensor, generator: torch.Generator
) -> tuple[dict[str, Tensor], str]:
    """x with noise of variance 1 denoised by methods that have seen at most the spectrum of x
    ``train``, and what is left out.
    """
    trial = train[:20] + torch.randn(train[:20].shape, generator=generator)

    def error(h: float) -> float:
        return float((baselines.non_local_means(trial, 1.0, h) - train[:20]).square().mean())

    found, left_out = bm3d(noisy, 1.0)
    found["non-local means"] = baselines.non_local_means(noisy, 1.0, min(STRENGTHS, key=error))
    found["Wiener filter"] = baselines.wiener(noisy, 1.0, train)
    found["the noisy image itself"] = noisy
    return found, left_out


def scores(truth: Tensor, estimate: Tensor, missing: Tensor | None) -> dict[str, Tensor]:
    """PSNR (dB; over the missing pixels), SSIM, and how far the power spectrum is off (root mean
    square, dB), each (n,).
    """
    found = baselines.quality(truth, estimate, missing)
    pairs = zip(truth, estimate, strict=True)
    off = [(spectrum(a) - spectrum(b)).square().mean().sqrt() for a, b in pairs]
    return found | {"spectrum": torch.stack(off)}
