"""Models of ``diffusers`` and ``denoising_diffusion_pytorch``, neither of which is imported."""

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nonequilibrium.adapters.checks import check, numbers
from nonequilibrium.adapters.prediction import Adapted, Scaled, from_function
from nonequilibrium.errors import AdapterError

# Their words for a prediction and a variance; those in ``_log`` differ in how a sampler computes.
_DIFFUSERS = {"epsilon": "noise", "sample": "x0", "v_prediction": "velocity"}
_VARIANCES = {"fixed_small_log": "fixed_small", "fixed_large_log": "fixed_large"}
_NO_CHAIN = dict.fromkeys(("LCMScheduler", "TCDScheduler"), "consistency functions")
_NO_CHAIN |= {"IPNDMScheduler": "networks of a noise level"}
_OBJECTIVES = {"pred_noise": "noise", "pred_x0": "x0", "pred_v": "velocity"}


def from_diffusers(unet, scheduler=None, **changes) -> Adapted:
    """A network of ``diffusers`` with the scheduler of its training, or a pipeline that has both.

    The chain has all T steps of the training. Beside its schedule the scheduler's
    ``prediction_type``, ``variance_type`` (the smaller fixed one where there is none),
    ``clip_sample`` and ``thresholding`` are read; ``from_config`` carries those that were set, and
    no defaults, to another kind. A network trained on ``add_noise`` of a DPM, DEIS or UniPC
    scheduler before its ``set_timesteps`` has learned the steps in reverse. What ``bits_per_dim``
    is ``given`` goes to ``class_labels``, or by name. changes: arguments of ``from_function`` to
    set otherwise, such as ``clip``. Raises AdapterError, also for a chain of latents.
    """
    if scheduler is None:
        if any(getattr(unet, name, None) is not None for name in ("vae", "vqvae", "movq")):
            words = "has a chain of latents, not of pixels, whose bits its decoder alone would give"
            raise AdapterError(f"a {type(unet).__name__} {words}")
        unet, scheduler = getattr(unet, "unet", None), getattr(unet, "scheduler", None)
    config: Any = getattr(scheduler, "config", None)
    if not callable(unet) or not hasattr(config, "get"):
        raise AdapterError("a model is a network and its scheduler with a config, or a pipeline")
    settings = _chain_of(scheduler, config, changes)
    if getattr(getattr(unet, "config", None), "time_embedding_type", None) == "fourier":
        words = "embeds the logarithm of its time, which is none at step 0"
        raise AdapterError(f"the network {words}; from_ve takes a network of noise levels")
    times = settings.pop("times", None)

    def network(x: Tensor, s: Tensor, label: Tensor | None = None, **named):
        time = s if times is None else times.to(x)[s]
        named |= {} if label is None else {"class_labels": label}
        out = unet(x, time, **named)
        return out[0] if isinstance(out, tuple) else getattr(out, "sample", out)

    settings["network"] = unet if isinstance(unet, nn.Module) else None
    return _changed(network, settings, changes)


def _chain_of(scheduler, config, changes: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``from_function``, and the ``times`` of a network that is not asked by steps."""
    name, settings = type(scheduler).__name__, dict[str, Any]()
    if name in _NO_CHAIN:
        raise AdapterError(f"{name} is for {_NO_CHAIN[name]}, which have no chain of β_t")
    if getattr(scheduler, "betas", None) is None:
        words = "from_edm, from_flow, from_score and from_ve take networks of other paths"
        raise AdapterError(f"{name} has no betas; only steps with β_t are read from it ({words})")
    if config.get("use_flow_sigmas"):
        raise AdapterError(f"{name} has use_flow_sigmas, not betas; from_flow takes its velocity")
    predicts = config.get("prediction_type", "epsilon")
    of_scheduler, words = f"the prediction_type of {name} is", f"one of {', '.join(_DIFFUSERS)}"
    check(str(predicts) in _DIFFUSERS, of_scheduler, repr(predicts), words)
    variance = config.get("variance_type") or "fixed_small"
    # Some have the setting and never read it; carried over by ``from_config`` it is the model's.
    kind = type(scheduler)
    own = "clip_sample" in inspect.signature(kind.__init__).parameters
    unread = own and "if self.config.clip_sample" not in inspect.getsource(kind)
    clip = config.get("clip_sample_range", 1.0) if config.get("clip_sample") else None
    settings |= {"predicts": _DIFFUSERS[predicts], "clip": None if unread else clip}
    if config.get("thresholding"):
        settings["clip"] = getattr(scheduler, "_threshold_sample", None)
        if settings["clip"] is None:
            raise AdapterError(f"{name} has thresholding but no function for it; give clip")
    settings["variance"] = _VARIANCES.get(str(variance), variance)
    schedule = _schedule(scheduler)
    if config.get("timestep_type") == "continuous" and predicts == "v_prediction":
        beta = 1 - schedule.get("betas", torch.zeros(0))
        alpha_bar = schedule.get("alphas_cumprod", beta.cumprod(0))
        settings["times"] = ((1 - alpha_bar) / alpha_bar).log() / 8  # ¼ log σ
    return settings | ({} if {"betas", "alphas_cumprod"} & set(changes) else schedule)


def _schedule(scheduler) -> dict[str, Tensor]:
    """betas or alphas_cumprod: some schedulers change the second and leave the first."""
    betas = numbers("betas", scheduler.betas)
    if getattr(scheduler, "alphas_cumprod", None) is None:
        return {"betas": betas}
    alpha_bar = numbers("alphas_cumprod", scheduler.alphas_cumprod)
    lengths = len(betas), len(alpha_bar)
    check(len({*lengths}) == 1, "betas and alphas_cumprod have lengths", lengths, "the same, T")
    same = torch.allclose(torch.cumprod(1 - betas, 0), alpha_bar, rtol=1e-3, atol=1e-7)
    return {"betas": betas} if same else {"alphas_cumprod": alpha_bar}


def _changed(network, settings: dict[str, Any], changes: dict[str, Any]) -> Adapted:
    known = [*inspect.signature(from_function).parameters][1:]
    for name in changes:
        check(name in known, name, "is unknown", f"one of {', '.join(known)}")
    return from_function(network, **(settings | changes))


def from_denoising_diffusion_pytorch(diffusion, **changes) -> Adapted:
    """A ``GaussianDiffusion`` or ``LearnedGaussianDiffusion`` of ``denoising_diffusion_pytorch``.

    Its sampler clamps the estimated x^0 to [−1, 1], which is a part of the model. changes:
    arguments of ``from_function`` to set otherwise. Raises AdapterError, as for self-conditioning.
    """
    name, betas = type(diffusion).__name__, getattr(diffusion, "betas", None)
    objective, network = str(getattr(diffusion, "objective", "")), getattr(diffusion, "model", None)
    if objective not in _OBJECTIVES or betas is None or not callable(network):
        raise AdapterError(f"a {name} is no chain of steps with an objective, betas and a model")
    if getattr(diffusion, "self_condition", False):
        raise AdapterError("with self_condition a step depends on more than x^t: it is no chain")
    normalize = getattr(diffusion, "normalize", None)
    if callable(normalize) and float(normalize(torch.zeros(1))) != -1:
        raise AdapterError("auto_normalize is off; x^0 must be an image scaled to [-1, 1]")
    settings: dict[str, Any] = {"betas": betas, "predicts": _OBJECTIVES[objective], "clip": 1.0}
    if hasattr(diffusion, "vb_loss_weight"):  # a learned variance; every output is taken for noise
        settings |= {"predicts": "noise", "variance": "learned_range", "first_var": 1e-20}
    if hasattr(network, "cond_drop_prob"):  # else labels would be dropped at random, as in training
        settings["network"], network = network, partial(network, cond_drop_prob=0.0)
    return _changed(network, settings, changes)


def adapted(model) -> Adapted:
    """A kernel and a reverse, from such a pair or a model of a library; raises AdapterError."""
    if isinstance(model, tuple) and len(model) == 2 and hasattr(model[0], "q_posterior"):
        return Adapted(*model)
    if hasattr(model, "scale") and hasattr(model, "proposal"):  # an image model of this package
        with torch.no_grad():
            kernel, (mean, sigma) = model.kernel(), model.scale
        # Its noise lies on [0, 1), that of ``bits_per_dim`` on [−1/2, 1/2).
        scaled = Scaled(model.reverse(kernel), (mean - 0.5, sigma), model.proposal())
        return Adapted(kernel, scaled)
    if hasattr(model, "unet") and hasattr(model, "scheduler"):
        return from_diffusers(model)
    if hasattr(model, "objective"):
        return from_denoising_diffusion_pytorch(model)
    words = "a kernel and a reverse, as from_function and its like make them"
    raise AdapterError(f"the model is a {type(model).__name__}; it must be {words}")
