"""The first diffusion model (Sohl-Dickstein et al. 2015): kernels, networks, and a bound to trust.

The bound of a trained model on images (n, c, h, w) uint8, in bits per dimension, is

    import torch
    from nonequilibrium import bits, bits_per_dim, load_weights, sampled_bound

    model, random = load_weights("models/cifar10.safetensors"), torch.Generator().manual_seed(0)
    kernel, x0 = model.kernel(), model.scale.dequantise(images, random)
    reverse, proposal = model.reverse(kernel), model.proposal()
    bound = sampled_bound(kernel, reverse, x0, random, draws=20, proposal=proposal)
    print(bits_per_dim(bits(bound.K), x0[0].numel(), model.scale.sigma))
"""

import importlib

_NAMES = {  # that most uses need, each imported when it is first asked for
    "diffusion.chain": ["Kernel", "Reverse"],
    "diffusion.kernels": ["GaussianKernel", "BinomialKernel"],
    "diffusion.schedules": ["schedule"],
    "diffusion.sampling": ["sample", "sample_each", "reverse_trajectory"],
    "diffusion.posterior": ["Denoise", "Inpaint"],
    "bound.bound": ["full_bound", "sampled_bound", "L_null", "bits", "bits_per_dim"],
    "bound.theory": ["jarzynski"],
    "model.weights": ["load_weights"],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'nonequilibrium' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nonequilibrium.{_HOME[name]}"), name)


def __dir__():
    return [*globals(), *_HOME]
