"""All scheduler classes of diffusers 0.42.1: accepted with the right chain, or refused in words."""

import importlib
import inspect
import pkgutil
import sys
import types

import pytest
import torch

from nonequilibrium import adapters

diffusers = pytest.importorskip("diffusers")
T = 50
ARGUMENTS = {
    "AmusedScheduler": {"mask_token_id": 5},
    "VQDiffusionScheduler": {"num_vec_classes": 5},
    "RFD4ProteinaScheduler": {
        "schedule_mode": "log",
        "noise_mode": "tan",
        "tsr_k": 1.0,
        "tsr_sigma": 1.0,
    },
}
CHAINS = {  # what the accepted ones do to the estimate of x^0
    "CogVideoXDDIMScheduler": None,  # it has clip_sample and never reads it
    "CogVideoXDPMScheduler": None,
    "DDIMInverseScheduler": 1.0,
    "DDIMParallelScheduler": 1.0,
    "DDIMScheduler": 1.0,
    "DDPMParallelScheduler": 1.0,
    "DDPMScheduler": 1.0,
    "DEISMultistepScheduler": None,
    "DPMSolverMultistepInverseScheduler": None,
    "DPMSolverMultistepScheduler": None,
    "DPMSolverSDEScheduler": None,
    "DPMSolverSinglestepScheduler": None,
    "EulerAncestralDiscreteScheduler": None,
    "EulerDiscreteScheduler": None,
    "HeunDiscreteScheduler": None,
    "KDPM2AncestralDiscreteScheduler": None,
    "KDPM2DiscreteScheduler": None,
    "LMSDiscreteScheduler": None,
    "PNDMScheduler": None,
    "RePaintScheduler": 1.0,
    "SASolverScheduler": None,
    "UnCLIPScheduler": 1.0,
    "UniPCMultistepScheduler": None,
}
REFUSED = {  # and why the others have no chain of steps with β_t
    "LCMScheduler": "consistency functions",
    "TCDScheduler": "consistency functions",
    "IPNDMScheduler": "noise level",
}
REFUSED |= dict.fromkeys(
    (
        "AmusedScheduler",
        "BlockRefinementScheduler",
        "CMStochasticIterativeScheduler",
        "ConsistencyDecoderScheduler",
        "CosineDPMSolverMultistepScheduler",
        "DDPMWuerstchenScheduler",
        "DiscreteDDIMScheduler",
        "EDMDPMSolverMultistepScheduler",
        "EDMEulerScheduler",
        "EntropyBoundScheduler",
        "FlowMapEulerDiscreteScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
        "FlowMatchLCMScheduler",
        "HeliosDMDScheduler",
        "HeliosScheduler",
        "KarrasVeScheduler",
        "LTXEulerAncestralRFScheduler",
        "MiniMaxH3Scheduler",
        "PiflowScheduler",
        "RFD4ProteinaScheduler",
        "SCMScheduler",
        "ScoreSdeVeScheduler",
        "ScoreSdeVpScheduler",
        "VQDiffusionScheduler",
    ),
    "has no betas",
)


@pytest.fixture(scope="module")
def classes():
    """Every class that is a scheduler, by name, also those that need torchsde to sample."""
    base, found = diffusers.SchedulerMixin, {}
    with pytest.MonkeyPatch.context() as patch:
        if "torchsde" not in sys.modules:
            patch.setitem(sys.modules, "torchsde", types.ModuleType("torchsde"))
        for package in ("diffusers.schedulers", "diffusers.schedulers.deprecated"):
            for part in pkgutil.iter_modules(importlib.import_module(package).__path__):
                if part.name.endswith("_flax"):  # of earlier versions, which need JAX
                    continue
                module = importlib.import_module(f"{package}.{part.name}")
                for name, kind in inspect.getmembers(module, inspect.isclass):
                    if issubclass(kind, base) and kind is not base:
                        found[name] = kind
        yield found


@pytest.fixture
def kind(name, classes):
    if diffusers.__version__ != "0.42.1" and name not in classes:
        pytest.skip("this version of diffusers does not have it")
    return classes[name]


def made(kind, **settings):
    words = ARGUMENTS.get(kind.__name__, {}) | settings
    known = inspect.signature(kind.__init__).parameters
    if "num_train_timesteps" in known:
        words["num_train_timesteps"] = T
    if kind.__name__ == "RePaintScheduler":
        words.pop("prediction_type", None)
    return kind(**words)


def test_the_table_has_every_class_of_this_version(classes):
    if diffusers.__version__ != "0.42.1":
        pytest.skip("the table is of diffusers 0.42.1")
    assert set(classes) == set(CHAINS) | set(REFUSED) and len(classes) == 51


def quiet(x, s):
    return 0 * x


@pytest.mark.parametrize("name", CHAINS)
def test_accepted_schedulers_have_their_own_chain(name, kind):
    kernel, reverse = adapters.from_diffusers(quiet, made(kind))
    scheduler = made(kind)
    assert kernel.T == T and reverse.variance == "fixed_small" and reverse.clip == CHAINS[name]
    assert torch.allclose(kernel.alpha_bar[1:], scheduler.alphas_cumprod.double(), rtol=1e-4)
    x0, noise = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    if hasattr(scheduler, "set_timesteps") and "add_noise" in vars(kind):
        steps = torch.tensor([3, 40])
        if hasattr(scheduler, "sigmas"):
            scheduler.set_timesteps(T)
            steps = scheduler.timesteps[[5, 20]]
        try:
            theirs = scheduler.add_noise(x0, noise, steps)
        except Exception:  # some can only add noise while they sample
            return
        if "sigmas" in vars(scheduler) and not hasattr(scheduler, "lambda_t"):
            sigma = theirs.flatten(1)[:, 0]  # these keep the variance-exploding path
            theirs = theirs / (1 + sigma**2).sqrt().reshape(-1, 1, 1, 1)
        ours = kernel.q_marginal(x0, steps.round().long() + 1).draw(noise)
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_schedulers_say_why(name, kind):
    with pytest.raises(adapters.AdapterError, match=REFUSED[name]) as caught:
        adapters.from_diffusers(quiet, made(kind))
    assert name in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "UniPCMultistep", "DEISMultistep"])
def test_flow_sigmas_are_no_chain_of_betas(name):
    kind = getattr(diffusers, f"{name}Scheduler")
    for predicts in ("epsilon", "flow_prediction"):
        scheduler = kind(use_flow_sigmas=True, prediction_type=predicts)
        with pytest.raises(adapters.AdapterError, match="use_flow_sigmas.*from_flow"):
            adapters.from_diffusers(quiet, scheduler)


def test_a_continuous_network_is_asked_with_a_quarter_of_log_sigma():
    asked = []

    def network(x, time):
        asked.append(time)
        return 0 * x

    scheduler = diffusers.EulerDiscreteScheduler(
        T, timestep_type="continuous", prediction_type="v_prediction"
    )
    _, reverse = adapters.from_diffusers(network, scheduler)
    reverse(torch.zeros(T, 1, 2, 2), torch.arange(1, T + 1))
    scheduler.set_timesteps(T)
    theirs = torch.as_tensor(scheduler.timesteps).flip(0).float()
    torch.testing.assert_close(asked[0][[0, -1]], theirs[[0, -1]], rtol=1e-3, atol=1e-3)


def test_clip_and_variance_go_along_with_from_config():
    given = {"variance_type": "fixed_large", "clip_sample_range": 0.7}
    for clips, wanted in (({"clip_sample": True}, 0.7), ({}, None)):  # no default is carried
        ddpm = diffusers.DDPMScheduler(T, **given, **clips)
        other = diffusers.DPMSolverMultistepScheduler.from_config(ddpm.config)
        reverse = adapters.from_diffusers(quiet, other).reverse
        assert (reverse.variance, reverse.clip) == ("fixed_large", wanted)


def test_networks_that_cannot_be_asked_are_refused_in_a_sentence():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    scheduler = diffusers.DDPMScheduler(T)
    pixart = diffusers.PixArtTransformer2DModel(
        num_attention_heads=1,
        attention_head_dim=8,
        in_channels=3,
        out_channels=3,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        cross_attention_dim=8,
        caption_channels=8,
        norm_type="ada_norm_single",
    )
    line = diffusers.UNet1DModel(
        sample_size=8, in_channels=3, out_channels=3, time_embedding_type="positional"
    )
    small = {"block_out_channels": (8,), "norm_num_groups": 4, "sample_size": 8}
    small |= {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    grey = diffusers.UNet2DModel(in_channels=1, out_channels=1, **small)
    for network in (pixart, line, grey):
        with pytest.raises(adapters.AdapterError, match="cannot be called with x.t and the step"):
            adapters.bits_per_dim(adapters.from_diffusers(network, scheduler), images)
    fourier = diffusers.UNet2DModel(time_embedding_type="fourier", **small)
    with pytest.raises(adapters.AdapterError, match="logarithm of its time"):
        adapters.from_diffusers(fourier, scheduler)

    def logarithmic(x, s):
        return x * s.log().reshape(-1, 1, 1, 1)

    with pytest.raises(adapters.AdapterError, match="none at step 0"):
        adapters.bits_per_dim(adapters.from_function(logarithmic, scheduler.betas), images, None)


def test_a_network_of_classes_is_measured_with_its_labels():
    small = {"block_out_channels": (8,), "norm_num_groups": 4, "sample_size": 8}
    small |= {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(in_channels=1, out_channels=1, num_class_embeds=3, **small)
    scheduler = diffusers.DDPMScheduler(T)
    images, labels = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8), torch.arange(6) % 3
    model = adapters.from_diffusers(network, scheduler)
    cost = adapters.bits_per_dim(model, images, 3, given=labels, block=4)
    by_name = adapters.bits_per_dim(model, images, 3, given={"class_labels": labels}, block=4)
    assert cost.bits_per_dim == by_name.bits_per_dim

    def one(x, s):
        return network(x, s, class_labels=torch.ones(len(x), dtype=torch.long)).sample

    ones = adapters.bits_per_dim(model, images, 3, given=0 * labels + 1)
    alone = adapters.from_diffusers(one, scheduler)
    assert ones.bits_per_dim == pytest.approx(adapters.bits_per_dim(alone, images, 3).bits_per_dim)
    assert ones.bits_per_dim != cost.bits_per_dim
