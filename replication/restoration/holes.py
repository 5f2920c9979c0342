"""How well a hole in a texture is filled, pixel by pixel and as a texture, and other methods.

A crack two pixels aside has a poor PSNR and the right texture; a smooth filling is the reverse.
Pictures are uint8 (c, h, w), holes (h, w) bool.
"""

import importlib
import itertools
import math

import numpy as np
import torch
from scipy.ndimage import find_objects
from scipy.stats import wasserstein_distance
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

RADIUS = 3  # pixels around a missing one that OpenCV's methods look at, as in its own example
NO_OPENCV = "OpenCV is not installed, so its two methods are left out; "
NO_OPENCV += "`pip install nonequilibrium[measure]`"


def biharmonic(picture: Tensor, hole: Tensor) -> Tensor:
    """The picture with its hole filled by biharmonic inpainting."""
    image = (picture / 255.0).movedim(0, -1).numpy()
    filled = torch.from_numpy(inpaint_biharmonic(image, hole.numpy(), channel_axis=-1))
    filled = filled.movedim(-1, 0).mul(255).round().clamp(0, 255)
    return torch.where(hole, filled.to(torch.uint8), picture)


def spectrum(patch: Tensor) -> Tensor:
    """Mean power in rings of equal frequency, dB, under a Hann window: (c, h, w) to (rings,)."""
    h, w = patch.shape[-2:]
    window = torch.hann_window(h, periodic=False)[:, None] * torch.hann_window(w, periodic=False)
    x = patch.float() - patch.float().mean((-2, -1), keepdim=True)
    power = torch.fft.fft2(x * window).abs().square().mean(0) / window.square().sum()
    frequency = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.fftfreq(w)[None])
    rings = min(h, w) // 4
    ring = (frequency * 2 * rings).long()
    kept = (ring < rings) & (frequency > 0)  # without the corners, which are no whole rings
    total = torch.zeros(rings).index_add_(0, ring[kept], power[kept])
    mean = total / torch.bincount(ring[kept], minlength=rings)
    return 10 * torch.log10(mean + 1e-3)  # far below the power of rounding; no smooth patch has −∞


def texture_distance(a: Tensor, b: Tensor) -> dict[str, float]:
    """How far two patches (c, h, w) of one size differ as textures.

    spectrum: root mean square difference of their power spectra, dB. gradients: the earth mover's
    distance between the histograms of differences of neighbouring pixels, grey levels.
    """
    off = float((spectrum(a) - spectrum(b)).square().mean().sqrt())
    steps = [torch.cat([x.double().diff(dim=k).flatten() for k in (-2, -1)]) for x in (a, b)]
    return {"spectrum": off, "gradients": float(wasserstein_distance(*steps))}


def box(hole: Tensor) -> tuple:
    """The index of the rectangle that ``hole`` (h, w) lies in: (..., rows, columns)."""
    return ..., *find_objects(hole.numpy().astype(int))[0]


def quality(truth: Tensor, filled: Tensor, hole: Tensor) -> dict[str, float]:
    """PSNR (dB) over the missing pixels, and ``texture_distance`` of the hole's rectangle."""
    error = float((truth.double() - filled.double())[..., hole].square().mean())
    PSNR, place = 10 * math.log10(255**2 / max(error, 1e-2)), box(hole)
    return {"PSNR": PSNR} | texture_distance(filled[place], truth[place])


def elsewhere(truth: Tensor, hole: Tensor) -> dict[str, float]:
    """Mean ``texture_distance`` of other places from the content of a hole: within its texture."""
    sides, distances = truth[place := box(hole)].shape[-2:], []
    starts = (range(0, n - m + 1, max(1, m // 2)) for n, m in zip(hole.shape, sides, strict=True))
    for corner in itertools.product(*starts):
        part: tuple = (..., *(slice(a, a + m) for a, m in zip(corner, sides, strict=True)))
        if not hole[part].any():
            distances.append(texture_distance(truth[part], truth[place]))
    names = distances[0] if distances else ()
    return {name: float(np.mean([row[name] for row in distances])) for name in names}


def others(picture: Tensor, hole: Tensor) -> tuple[dict[str, Tensor], str]:
    """The hole filled by methods without learning: ({method: picture}, what is left out, or "")."""
    filled = {"biharmonic": biharmonic(picture, hole)}
    try:
        cv2 = importlib.import_module("cv2")  # an extra, so a type checker may not find it
    except ImportError:
        return filled, NO_OPENCV
    array, mask = np.ascontiguousarray(picture.movedim(0, -1)), hole.numpy().astype(np.uint8)
    flags = {"OpenCV, Navier–Stokes": cv2.INPAINT_NS, "OpenCV, Telea": cv2.INPAINT_TELEA}
    for name, flag in flags.items():
        result = torch.from_numpy(cv2.inpaint(array, mask, RADIUS, flag).reshape(array.shape))
        filled[name] = torch.where(hole, result.movedim(-1, 0), picture)
    return filled, ""
