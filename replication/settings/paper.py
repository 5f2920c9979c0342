"""Every number that the paper prints and this project compares with, once. Units are those of its
tables.

A missing entry is one that the paper does not give.
"""

from __future__ import annotations

# Table 1: the bound K on a held-out set and K − L_null, in bits a point, a sequence or a pixel (all
# channels of it).
TABLE_1 = {
    "swiss_roll": {"K": 2.35, "K_minus_L_null": 6.45},
    "heartbeat": {"K": -2.414, "K_minus_L_null": 12.024},
    "bark": {"K": -0.55, "K_minus_L_null": 1.5},
    "dead_leaves": {"K": 1.489, "K_minus_L_null": 3.536},
    "cifar10": {"K": 5.4, "K_se": 0.2, "K_minus_L_null": 11.5},
}
# Table 2: the Parzen window estimate of MNIST samples in bits (mean, standard error), the paper's
# own among others that it quotes.
PARZEN = {
    "stacked CAE": (174, 2.3),
    "DBN": (199, 2.9),
    "Deep GSN": (309, 1.6),
    "diffusion (paper)": (317, 2.7),
    "adversarial net": (325, 2.9),
    "training images (paper)": (349, 3.3),
}
# Table 2: dead leaves, bits a pixel.
MCGSM_DEAD_LEAVES = 1.244
# Log likelihoods of the true laws where the paper prints them, bits.
HEARTBEAT_TRUE_L = -2.322
CIFAR10_SIGMA = 64.15  # standard deviation of CIFAR-10's levels on the 0..255 scale, by which its K is turned into bits/dim
