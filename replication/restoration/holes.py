"""How well a hole in a texture is filled: against the truth pixel by pixel, and as a texture, and
by what else it can be filled.

A sharp filling that puts a crack two pixels aside has a poor PSNR and is a good texture; a smooth
one is the other way round. So both are measured. Pictures are uint8 (c, h, w), holes (h, w) bool.
"""

from __future__ import annotations

import importlib
import math

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from replication.measure.baselines import biharmonic

RADIUS = 3  # pixels around a missing one that OpenCV's methods look at, as in its own example
NO_OPENCV = "opencv-python-headless is not installed, so its two methods are left out; `pip install nonequilibrium[measure]`"


def spectrum(patch: Tensor) -> Tensor:
    """Mean power in rings of equal spatial frequency, in dB, (rings,): (c, h, w) without its mean,
    under a Hann window.
    """
    h, w = patch.shape[-2:]
    window = torch.hann_window(h, periodic=False)[:, None] * torch.hann_window(w, periodic=False)
    x = patch.float() - patch.float().mean((-2, -1), keepdim=True)
    power = torch.fft.fft2(x * window).abs().square().mean(0) / window.square().sum()
    frequency = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.fftfreq(w)[None])
    rings = min(h, w) // 4
    ring = (frequency * 2 * rings).long()
    kept = (ring < rings) & (frequency > 0)  # not the corners, of which each side has a part only
    mean = torch.zeros(rings).index_add_(0, ring[kept], power[kept]) / torch.bincount(
        ring[kept], minlength=rings
    )
    return 10 * torch.log10(
        mean + 1e-3
    )  # far below the power of rounding, so that no smooth patch has −∞


def gradients(patch: Tensor) -> np.ndarray:
    """Differences of neighbouring pixels, down and across, in grey levels: (c, h, w) to one long
    array.
    """
    x = patch.double()
    return torch.cat(
        [(x[..., 1:, :] - x[..., :-1, :]).flatten(), (x[..., 1:] - x[..., :-1]).flatten()]
    ).numpy()


def texture_distance(a: Tensor, b: Tensor) -> dict[str, float]:
    """How far two patches (c, h, w) of one size differ as textures.

    spectrum: root mean square difference of their power spectra, dB. gradients: the earth mover's
    distance of their histograms of differences between neighbouring pixels, grey levels.
    """
    difference = spectrum(a) - spectrum(b)
    return {
        "spectrum": float(difference.square().mean().sqrt()),
        "gradients": float(wasserstein_distance(gradients(a), gradients(b))),
    }


def box(hole: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the rectangle that ``hole`` (h, w) lies in."""
    rows, columns = (torch.nonzero(hole.any(axis))[:, 0] for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def quality(truth: Tensor, filled: Tensor, hole: Tensor) -> dict[str, float]:
    """PSNR (dB) over the missing pixels, and ``texture_distance`` of the hole's rectangle from the
    true one.
    """
    error = float((truth.double() - filled.double())[..., hole].square().mean())
    rows, columns = box(hole)
    return {
        "PSNR": 10 * math.log10(255**2 / max(error, 1e-2)),
        **texture_distance(filled[..., rows, columns], truth[..., rows, columns]),
    }


def elsewhere(truth: Tensor, hole: Tensor) -> dict[str, float]:
    """``texture_distance`` of the true content of a hole from other places of the picture, their
    mean: what is within its texture.
    """
    rows, columns = box(hole)
    h, w = rows.stop - rows.start, columns.stop - columns.start
    true, found = truth[..., rows, columns], []
    for top in range(0, truth.shape[-2] - h + 1, max(1, h // 2)):
        for left in range(0, truth.shape[-1] - w + 1, max(1, w // 2)):
            if not hole[top : top + h, left : left + w].any():
                found.append(texture_distance(truth[..., top : top + h, left : left + w], true))
    return {key: float(np.mean([each[key] for each in found])) for key in found[0]} if found else {}


def others(picture: Tensor, hole: Tensor) -> tuple[dict[str, Tensor], str]:
    """The hole filled by methods that have learned nothing: ({method: picture}, what is left out
    and why, or "").
    """
    known = ~hole
    filled = {"biharmonic": biharmonic(picture[None], known)[0]}
    try:
        cv2 = importlib.import_module("cv2")  # an extra, so a type checker may not find it
    except ImportError:
        return filled, NO_OPENCV
    array = np.ascontiguousarray(picture.movedim(0, -1).numpy())
    mask = hole.numpy().astype(np.uint8)
    for name, flag in (
        ("OpenCV, Navier–Stokes", cv2.INPAINT_NS),
        ("OpenCV, Telea", cv2.INPAINT_TELEA),
    ):
        result = cv2.inpaint(array, mask, RADIUS, flag).reshape(array.shape)
        filled[name] = torch.where(known, picture, torch.from_numpy(result).movedim(-1, 0))
    return filled, ""
