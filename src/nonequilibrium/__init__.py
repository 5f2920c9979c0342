"""The first diffusion model, replicated (Sohl-Dickstein et al. 2015): kernels, networks, and a bound one can trust.

The names below are what most uses need. They are imported when they are first asked for, so that ``import nonequilibrium`` is quick.
"""

import importlib

_HOME = {
    "GaussianKernel": "diffusion.kernels",
    "BinomialKernel": "diffusion.kernels",
    "schedule": "diffusion.schedules",
    "sample": "diffusion.sampling",
    "reverse_trajectory": "diffusion.sampling",
    "full_bound": "bound.bound",
    "sampled_bound": "bound.bound",
    "L_null": "bound.bound",
    "bits": "bound.bound",
    "bits_per_dim": "bound.bound",
    "jarzynski": "bound.theory",
    "train": "experiment.train",
    "load_weights": "experiment.weights",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'nonequilibrium' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nonequilibrium.{_HOME[name]}"), name)


def __dir__():
    return [*globals(), *_HOME]
