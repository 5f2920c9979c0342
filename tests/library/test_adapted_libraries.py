"""Models of diffusers and denoising_diffusion_pytorch: the chain that is measured is the one that
these libraries sample from.

Each part is skipped where its library is absent; `pip install 'nonequilibrium[adapters]'` brings
both.
"""

import importlib
import math
import sys
import types

import pytest
import torch

from nonequilibrium import adapters
from nonequilibrium.bound.bound import kl_terms
from nonequilibrium.diffusion.kernels import Normal

T = 12


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (6, 1, 8, 8), generator=seeded(0), dtype=torch.uint8)


# ---------------------------------------------------------------- diffusers


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


def unet(diffusers, out_channels=1, **more):
    torch.manual_seed(1)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=out_channels,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        **more,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"beta_schedule": "linear"},
        {
            "beta_schedule": "squaredcos_cap_v2",
            "variance_type": "fixed_small_log",
            "clip_sample": False,
        },
        {
            "beta_schedule": "scaled_linear",
            "beta_start": 0.01,
            "variance_type": "fixed_large",
            "prediction_type": "sample",
        },
        {"beta_schedule": "sigmoid", "prediction_type": "v_prediction", "clip_sample_range": 0.5},
        {"beta_schedule": "linear", "beta_end": 0.3, "variance_type": "learned_range"},
        {
            "trained_betas": [0.01 * (s + 1) for s in range(T)],
            "thresholding": True,
            "sample_max_value": 1.5,
        },
    ],
)
def test_every_step_is_that_of_the_scheduler(diffusers, settings, images, monkeypatch):
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=T, **settings)
    network = unet(diffusers, 2 if settings.get("variance_type") == "learned_range" else 1).eval()
    kernel, reverse = adapters.from_diffusers(network, scheduler)
    module = diffusers.schedulers.scheduling_ddpm
    x = torch.randn(images.shape, generator=seeded(2))
    assert kernel.T == T
    for s in range(T):
        out = network(x, s).sample.detach()
        stepped = []
        for noise in (
            torch.zeros_like,
            torch.ones_like,
        ):  # the mean, and the mean and one standard deviation
            monkeypatch.setattr(module, "randn_tensor", lambda *_, noise=noise, **__: noise(x))
            stepped.append(scheduler.step(out, s, x).prev_sample)
        p = reverse(x, torch.full((len(x),), s + 1))
        torch.testing.assert_close(p.mean, stepped[0], rtol=2e-4, atol=2e-5)
        if s > 0:  # their sampler draws no noise at the last step
            torch.testing.assert_close(
                p.var.sqrt().expand_as(x), stepped[1] - stepped[0], rtol=2e-3, atol=1e-6
            )


def test_the_noise_that_the_scheduler_adds_is_that_of_the_chain(diffusers, images):
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=T, beta_end=0.3)
    kernel, _ = adapters.from_diffusers(unet(diffusers), scheduler)
    x0, s = images / 127.5 - 1, torch.arange(6) * 2
    noise = torch.randn(images.shape, generator=seeded(3))
    ours = kernel.sample(kernel.q_marginal(x0, s + 1), noise=noise)
    torch.testing.assert_close(ours, scheduler.add_noise(x0, noise, s), rtol=1e-4, atol=1e-5)


def test_a_pipeline_has_both_parts_and_gives_the_same_number(diffusers, images):
    network = unet(diffusers)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=T, beta_end=0.3)
    pipeline = diffusers.DDPMPipeline(network, scheduler)
    one = adapters.bits_per_dim(pipeline, images, draws=None)
    assert (
        one.bits_per_dim
        == adapters.bits_per_dim(
            adapters.from_diffusers(network, scheduler), images, None
        ).bits_per_dim
    )
    by_function = adapters.from_function(
        lambda x, s: network(x, s)[0], scheduler.betas, clip=1.0, network=network
    )
    assert one.bits_per_dim == adapters.bits_per_dim(by_function, images, draws=None).bits_per_dim
    assert math.isfinite(one.bits_per_dim) and one.mc_se > 0


def test_a_scheduler_without_a_variance_has_the_smaller_one(diffusers):
    model = adapters.from_diffusers(unet(diffusers), diffusers.DDIMScheduler(num_train_timesteps=T))
    assert model.reverse.variance == "fixed_small" and model.reverse.clip == 1.0
    changed = adapters.from_diffusers(
        unet(diffusers), diffusers.DDIMScheduler(), variance="fixed_large", clip=None
    )
    assert changed.reverse.variance == "fixed_large" and changed.reverse.clip is None


def test_a_scheduler_whose_variance_is_none_has_the_smaller_one(diffusers):
    scheduler = diffusers.DPMSolverMultistepScheduler(num_train_timesteps=T)
    assert adapters.from_diffusers(unet(diffusers), scheduler).reverse.variance == "fixed_small"


def test_the_chain_is_that_of_the_cumulative_product_that_the_scheduler_samples_by(diffusers):
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=T)
    same = adapters.from_diffusers(unet(diffusers), scheduler).kernel
    # The signal-to-noise ratio shifted by three, as a scheduler of videos does it, which leaves
    # betas as they were.
    scheduler.alphas_cumprod = scheduler.alphas_cumprod / (3 - 2 * scheduler.alphas_cumprod)
    shifted = adapters.from_diffusers(unet(diffusers), scheduler).kernel
    assert torch.allclose(same.beta[1:], scheduler.betas.double())
    assert torch.allclose(shifted.alpha_bar[1:], scheduler.alphas_cumprod.double(), rtol=1e-5)
    given = adapters.from_diffusers(unet(diffusers), scheduler, betas=scheduler.betas).kernel
    assert torch.allclose(given.beta, same.beta)


def test_a_chain_of_latents_is_refused(diffusers):
    pipeline = types.SimpleNamespace(
        unet=unet(diffusers), scheduler=diffusers.DDPMScheduler(), vqvae=torch.nn.Identity()
    )
    with pytest.raises(adapters.AdapterError, match="latents"):
        adapters.adapted(pipeline)


def test_a_network_that_needs_a_class_is_refused_and_a_function_that_adds_it_is_not(
    diffusers, images
):
    network = unet(diffusers, num_class_embeds=3)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=T)
    with pytest.raises(adapters.AdapterError, match="with x\\^t and the step alone"):
        adapters.bits_per_dim(adapters.from_diffusers(network, scheduler), images, draws=2)

    def of_a_class(x, s):
        return network(x, s, class_labels=torch.ones(len(x), dtype=torch.long))

    cost = adapters.bits_per_dim(adapters.from_diffusers(of_a_class, scheduler), images, draws=2)
    assert math.isfinite(cost.bits_per_dim)


def test_schedulers_without_such_a_chain_are_refused(diffusers, images):
    with pytest.raises(adapters.AdapterError, match="FlowMatchEulerDiscreteScheduler has no betas"):
        adapters.from_diffusers(unet(diffusers), diffusers.FlowMatchEulerDiscreteScheduler())
    dark = {"rescale_betas_zero_snr": True, "num_train_timesteps": T}
    with pytest.raises(adapters.AdapterError, match="leaves no signal at its end"):
        adapters.from_diffusers(unet(diffusers), diffusers.DDPMScheduler(**dark))
    velocity = diffusers.DDPMScheduler(**dark, prediction_type="v_prediction")
    cost = adapters.bits_per_dim(adapters.from_diffusers(unet(diffusers), velocity), images)
    assert math.isfinite(cost.bits_per_dim)


# ---------------------------------------------------------------- denoising_diffusion_pytorch


@pytest.fixture(scope="module")
def library():
    """The library; where no torchvision works, without it: only its trainer, which is not tried
    here, reads and writes pictures.
    """
    with pytest.MonkeyPatch.context() as patch:
        try:
            importlib.import_module("torchvision")
        except (ImportError, RuntimeError):  # the second where it is another PyTorch's
            torchvision = types.ModuleType("torchvision")
            for part in ("transforms", "utils"):
                setattr(torchvision, part, types.ModuleType(f"torchvision.{part}"))
                patch.setitem(sys.modules, f"torchvision.{part}", getattr(torchvision, part))
            patch.setitem(sys.modules, "torchvision", torchvision)
        return pytest.importorskip("denoising_diffusion_pytorch")


def their_unet(library, **settings):
    torch.manual_seed(4)
    return library.Unet(dim=8, dim_mults=(1, 2), channels=1, **settings).eval()


@pytest.mark.parametrize(
    "objective, beta_schedule",
    [("pred_noise", "linear"), ("pred_x0", "cosine"), ("pred_v", "sigmoid")],
)
def test_every_step_is_that_of_their_sampler(library, objective, beta_schedule, images):
    diffusion = library.GaussianDiffusion(
        their_unet(library),
        image_size=8,
        timesteps=25,
        objective=objective,
        beta_schedule=beta_schedule,
    )
    kernel, reverse = adapters.from_denoising_diffusion_pytorch(diffusion)
    x = torch.randn(images.shape, generator=seeded(5))
    for s in (0, 1, 5, 23):
        steps = torch.full((len(x),), s)
        mean, var, *_ = diffusion.p_mean_variance(x, steps)
        p = reverse(x, steps + 1)
        torch.testing.assert_close(p.mean, mean.detach(), rtol=1e-3, atol=1e-4)
        if s > 0:
            torch.testing.assert_close(p.var, var, rtol=1e-3, atol=1e-7)
    cost = adapters.bits_per_dim(diffusion, images[:2])
    assert math.isfinite(cost.bits_per_dim) and cost.bits_per_dim > 6, (
        "random levels cost eight bits"
    )


def test_a_learned_variance_gives_their_own_bound_at_every_step(library, images):
    diffusion = library.LearnedGaussianDiffusion(
        their_unet(library, learned_variance=True),
        image_size=8,
        timesteps=25,
        objective="pred_noise",
    )
    module = importlib.import_module("denoising_diffusion_pytorch.learned_gaussian_diffusion")
    kernel, reverse = adapters.from_denoising_diffusion_pytorch(diffusion)
    x0, noise = images / 127.5 - 1, torch.randn(images.shape, generator=seeded(6))
    for s in range(25):
        steps = torch.full((len(x0),), s)
        xs = diffusion.q_sample(x0, steps, noise)
        true_mean, _, true_log_var = diffusion.q_posterior(x0, xs, steps)
        mean, _, log_var, _ = diffusion.p_mean_variance(x=xs, t=steps, clip_denoised=True)
        if s == 0:
            p = reverse(xs, steps + 1)
            torch.testing.assert_close(p.mean, mean.detach(), rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(p.var.log(), log_var.detach(), rtol=1e-3, atol=1e-3)
        else:
            theirs = (
                module.normal_kl(true_mean, true_log_var, mean, log_var).flatten(1).sum(1).detach()
            )
            torch.testing.assert_close(
                kl_terms(kernel, reverse, x0, steps + 1, noise=noise), theirs, rtol=2e-3, atol=1e-3
            )


def test_the_decoder_is_their_approximation_made_exact(library):
    module = importlib.import_module("denoising_diffusion_pytorch.learned_gaussian_diffusion")
    x = (torch.arange(256) / 127.5 - 1).reshape(1, 1, 16, 16)
    mean, log_sd = torch.full_like(x, 0.2), torch.full_like(x, math.log(0.3))
    theirs = module.discretized_gaussian_log_likelihood(x, means=mean, log_scales=log_sd)
    ours = adapters.log_level(x, Normal(mean, (2 * log_sd).exp()))
    near = (x - 0.2).abs() < 0.6  # within two standard deviations
    assert (ours - theirs)[near].abs().max() < 0.02
    assert abs(float(ours.exp().sum()) - 1) < 1e-6


def test_self_conditioning_and_continuous_time_are_no_chain(library):
    with pytest.raises(adapters.AdapterError, match="self_condition"):
        adapters.adapted(
            library.GaussianDiffusion(their_unet(library, self_condition=True), image_size=8)
        )
    with pytest.raises(adapters.AdapterError, match="must be a"):
        adapters.adapted(
            library.ElucidatedDiffusion(
                their_unet(library, random_fourier_features=True), image_size=8
            )
        )
