"""Models of two libraries, ``diffusers`` and ``denoising_diffusion_pytorch``. Neither is imported:
a model says itself what it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nonequilibrium.adapters.prediction import Adapted, from_function
from nonequilibrium.errors import AdapterError, one_line

# What their words for a prediction and a variance are here. The ``_log`` ones differ in how a
# sampler computes them.
_DIFFUSERS = {"epsilon": "noise", "sample": "x0", "v_prediction": "velocity"}
_VARIANCES = {"fixed_small_log": "fixed_small", "fixed_large_log": "fixed_large"}
_OBJECTIVES = {"pred_noise": "noise", "pred_x0": "x0", "pred_v": "velocity"}


def from_diffusers(unet, scheduler=None, **changes) -> Adapted:
    """A network of ``diffusers`` with the scheduler that it was trained by, or a pipeline that has
    both.

    Of the scheduler count its ``betas``, or its ``alphas_cumprod`` where these are no product of
    them, its ``prediction_type``, ``variance_type`` (the smaller fixed one where it has none, as
    DDIM's), ``clip_sample`` and ``thresholding``. All T steps of the training are taken, however
    many a sampler would take.
    changes: arguments of ``from_function`` to set otherwise, such as ``clip`` or ``variance``.
    Raises AdapterError for a network that needs more than x^t and the step, a pipeline whose chain
    is one of latents, or a scheduler without a chain of β_t.
    """
    if scheduler is None:
        if any(getattr(unet, name, None) is not None for name in ("vae", "vqvae")):
            raise AdapterError(
                f"a {type(unet).__name__} has an autoencoder: its chain is one of latents, and its bound none of pixels"
            )
        unet, scheduler = getattr(unet, "unet", None), getattr(unet, "scheduler", None)
    if not callable(unet) or not hasattr(scheduler, "config"):
        raise AdapterError(
            "a model of diffusers is a network and its scheduler, or a pipeline that has both"
        )
    name, config = type(scheduler).__name__, scheduler.config
    if getattr(scheduler, "betas", None) is None:
        raise AdapterError(
            f"{name} has no betas; only a chain of steps with rates β_t has this bound"
        )
    predicts = config.get("prediction_type", "epsilon")
    if predicts not in _DIFFUSERS:
        raise AdapterError(
            f"the prediction_type of {name} is {predicts!r}; it must be one of {', '.join(_DIFFUSERS)}"
        )
    variance = config.get("variance_type") or "fixed_small"
    clip: Any = config.get("clip_sample_range", 1.0) if config.get("clip_sample") else None
    if config.get("thresholding"):
        clip = scheduler._threshold_sample
    settings = {
        "predicts": _DIFFUSERS[predicts],
        "variance": _VARIANCES.get(variance, variance),
        "clip": clip,
    }
    settings["network"] = unet if isinstance(unet, nn.Module) else None
    if not {"betas", "alphas_cumprod"} & set(changes):
        settings |= _schedule(scheduler)

    def network(x: Tensor, s: Tensor) -> Tensor:
        try:
            out = unet(x, s)
        except (TypeError, ValueError) as error:
            raise AdapterError(
                f"the network cannot be called with x^t and the step alone ({one_line(error)}); "
                "give a function of both, which adds what else it needs"
            ) from error
        return out if isinstance(out, Tensor) else out.sample

    return from_function(network, **(settings | changes))


def _schedule(scheduler) -> dict[str, Any]:
    """betas or alphas_cumprod: some schedulers change the second and leave the first."""
    betas, alphas_cumprod = scheduler.betas, getattr(scheduler, "alphas_cumprod", None)
    if alphas_cumprod is None:
        return {"betas": betas}
    product = torch.cumprod(1 - torch.as_tensor(betas).double(), 0)
    same = torch.allclose(product, torch.as_tensor(alphas_cumprod).double(), rtol=1e-3, atol=1e-7)
    return {"betas": betas} if same else {"alphas_cumprod": alphas_cumprod}


def from_denoising_diffusion_pytorch(diffusion, **changes) -> Adapted:
    """A ``GaussianDiffusion`` or ``LearnedGaussianDiffusion`` of ``denoising_diffusion_pytorch``.

    Its sampler clamps the estimated x^0 to [−1, 1], so that this is part of the model.
    changes: arguments of ``from_function`` to set otherwise. Raises AdapterError for other classes,
    for images of another scale and for a network that conditions on its own last estimate.
    """
    objective = getattr(diffusion, "objective", None)
    if objective not in _OBJECTIVES or getattr(diffusion, "betas", None) is None:
        raise AdapterError(
            f"a {type(diffusion).__name__} is no chain of steps; it must be a GaussianDiffusion"
        )
    if getattr(diffusion, "self_condition", False):
        raise AdapterError(
            "the network has self_condition, with which a step depends on more than x^t; only a chain has this bound"
        )
    normalize = getattr(diffusion, "normalize", None)
    if callable(normalize) and float(normalize(torch.zeros(1))) != -1:
        raise AdapterError(
            "the model has auto_normalize off: its x^0 is no image scaled to [-1, 1], as it must be here"
        )
    settings: dict[str, Any] = {"predicts": _OBJECTIVES[objective], "clip": 1.0}
    if hasattr(
        diffusion, "vb_loss_weight"
    ):  # LearnedGaussianDiffusion, which takes every output for noise
        settings |= {"predicts": "noise", "variance": "learned_range", "first_var": 1e-20}
    network = diffusion.model
    return from_function(network, diffusion.betas, **(settings | changes))


def adapted(model) -> Adapted:
    """A kernel and a reverse, from such a pair, a pipeline of ``diffusers`` or a
    ``GaussianDiffusion``; raises AdapterError.
    """
    if isinstance(model, tuple) and len(model) == 2 and hasattr(model[0], "q_posterior"):
        return Adapted(*model)
    if hasattr(model, "unet") and hasattr(model, "scheduler"):
        return from_diffusers(model)
    if hasattr(model, "objective"):
        return from_denoising_diffusion_pytorch(model)
    raise AdapterError(
        f"the model is a {type(model).__name__}; it must be a pair of kernel and reverse, such as from_diffusers, "
        "from_denoising_diffusion_pytorch and from_function make"
    )
