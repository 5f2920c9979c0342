"""Every number that the paper prints about its results, once (Tables 1 and 2; arXiv:1503.03585v8). Bits, as printed."""

from __future__ import annotations

TABLE_1 = {  # K and K − L_null on held-out data, in bits per ``unit``
    "swiss_roll": {"K": 2.35, "K_minus_L_null": 6.45, "unit": "bits per point"},
    "heartbeat": {"K": -2.414, "K_minus_L_null": 12.024, "unit": "bits per sequence"},
    "bark": {"K": -0.55, "K_minus_L_null": 1.5, "unit": "bits per pixel"},
    "dead_leaves": {"K": 1.489, "K_minus_L_null": 3.536, "unit": "bits per pixel"},
    "cifar10": {"K": 5.4, "K_se": 0.2, "K_minus_L_null": 11.5, "unit": "bits per pixel"},  # a pixel is three channels
}
MCGSM = 1.244  # Table 2, dead leaves, bits per pixel
PARZEN = {  # Table 2, MNIST: mean and standard error of the Parzen window estimate, bits an image
    "stacked CAE": (174, 2.3),
    "DBN": (199, 2.9),
    "Deep GSN": (309, 1.6),
    "diffusion (paper)": (317, 2.7),
    "adversarial net": (325, 2.9),
    "training images (paper)": (349, 3.3),
}
CIFAR10_SIGMA = (
    64.15  # standard deviation of CIFAR-10's training pixels on the 0..255 scale (ours: the paper prints none)
)


def table_1(data: str) -> dict:
    """The paper's row of Table 1 for ``data``, without its unit; empty where it prints none."""
    return {key: value for key, value in TABLE_1.get(data, {}).items() if key != "unit"}
