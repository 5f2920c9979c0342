"""Stands in for ``settings.profile``: the profiles as params.yaml is to hold them."""

from __future__ import annotations

import yaml

from replication.settings.fields import check_name

PROFILES = """
theory:
  quick:
    T: 50
    examples: {heartbeat: 60, swiss_roll: 30}
    averages: [1, 4, 16, 64]
    chains: [10, 30, 100]
    chain_examples: 30
    points: 500
    row: {correlations: [0.8, 0.99], sizes: [50], draws: 1200}
    bits: {T: 60, n: 1000}
  full:
    T: 50
    examples: {heartbeat: 400, swiss_roll: 150}
    averages: [1, 4, 16, 64, 256]
    chains: [10, 30, 100, 300, 1000, 3000]
    chain_examples: 50
    points: 4000
    row: {correlations: [0.8, 0.95, 0.99], sizes: [50, 100, 200, 400], draws: 2000}
    bits: {T: 200, n: 3000}
weighted:
  quick:
    pair: {sizes: [20, 40], counts: [1, 256], draws: 5120}
    row: {T: 40, counts: [1, 64], draws: 1280}
    bits: {sizes: [40], counts: [1, 256], draws: 1024}
    correlations: [0.8]
  full:
    pair: {sizes: [20, 50, 100, 200], counts: [1, 4, 16, 64, 256], draws: 10240}
    row: {T: 100, counts: [1, 16, 256], draws: 5120}
    bits: {sizes: [20, 60, 200], counts: [1, 16, 256], draws: 4096}
    correlations: [0.8, 0.95, 0.99]
schedules:
  quick: {climb: 3, points: 40, heldout: 300, train: 30, heartbeat: [20]}
  full: {climb: 30, points: 100, heldout: 2000, train: 600, heartbeat: [20, 50]}
differences:
  quick: {train: 40, heldout: 400, T: 50}
  full: {train: 600, heldout: 2000, T: 200}
restorations:                # images: of each task; averages: images, trajectories, steps
  quick:
    restored:
      cifar10_unet:
        title: U-Net
        images: {"inpainting, centre": 3, "inpainting, thin strokes": 3,
                 "4× super-resolution": 3, "denoising, SNR 1": 3}
        samples: 2
        others: 2
        steps: 10
        solve: 2
        particles: [2, 4]
    digits: {model: mnist_dense, each: 10, steps: 40, train: [150, 100], powers: [1.0, 3.0],
             particles: [2, 4]}
    averages:
      mnist_dense: [10, [1, 4, 16], 40]
  full:
    restored:
      cifar10:
        title: the paper's kind of network
        images: {"inpainting, centre": 100, "inpainting, right half": 100,
                 "inpainting, thin strokes": 40, "inpainting, 80 % at random": 40,
                 "4× super-resolution": 40, "blur of 1.5 pixels": 40, "denoising, SNR 1": 100}
        samples: 16
        others: 2
        steps: 30
        solve: 0
        particles: [4, 16]
      cifar10_unet:
        title: U-Net
        images: {"inpainting, centre": 100, "inpainting, right half": 100,
                 "inpainting, thin strokes": 40, "inpainting, 80 % at random": 40,
                 "4× super-resolution": 40, "blur of 1.5 pixels": 40, "denoising, SNR 1": 100}
        samples: 16
        others: 2
        steps: 30
        solve: 5
        particles: [2, 16]
      cifar10_unet_large:
        title: larger U-Net
        images: {"inpainting, centre": 32, "inpainting, right half": 32,
                 "inpainting, thin strokes": 16, "inpainting, 80 % at random": 16,
                 "4× super-resolution": 16, "blur of 1.5 pixels": 16, "denoising, SNR 1": 32}
        samples: 16
        others: 2
        steps: 30
        solve: 5
        particles: [2, 16]
    digits: {model: mnist_dense, each: 60, steps: 100, train: [1200, 800], powers: [1.0, 3.0],
             particles: [10, 8]}
    averages:
      mnist_dense: [50, [1, 10, 32], 1000]
      cifar10: [50, [1, 10, 32], 50]
"""


def profile(name: str, which: str) -> dict:
    """The sizes of the study ``name``, quick or full; raises ParameterError."""
    profiles = yaml.safe_load(PROFILES)[name]
    check_name("profile", which, profiles)
    return profiles[which]
