"""The modern network: what it sees, what it starts as, and that it learns."""

import dataclasses
import math
from functools import partialmethod

import pytest
import torch

from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights, weights_bytes
from nonequilibrium.network.outputs import velocity
from nonequilibrium.network.unet import Attention, ResidualBlock, UNet, grey_waves, time_features
from nonequilibrium.training.devices import prepared
from replication.settings.settings import quick
from replication.training.train import train

KERNEL = GaussianKernel(schedule("even_log_snr", 50, beta_1=1e-4, alpha_bar_T=1e-3), event_dim=3)


def network(shape=(3, 16, 16), **changes):
    sizes = {"channels": 16, "precision": "float32"} | changes
    return UNet(shape, torch.Generator().manual_seed(0), torch.tensor([0.0, 1.0]), **sizes)


def moved(unet):
    """The same with every weight away from its start, zeros included."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in unet.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    return unet


def test_it_starts_where_K_is_near_L_null():
    xt, t = torch.randn(4, 3, 16, 16), torch.tensor([2, 10, 30, 50])
    p = network()(KERNEL, xt, t)
    expected = velocity(KERNEL, xt, t, torch.zeros_like(xt), torch.zeros_like(xt))
    assert torch.equal(p.mean, expected.mean) and torch.equal(p.var, expected.var)


def test_each_image_has_its_own_t_and_nothing_else_matters():
    unet, xt, t = moved(network()), torch.randn(4, 3, 16, 16), torch.tensor([2, 10, 30, 50])
    together = unet(KERNEL, xt, t)
    for i in range(4):
        alone = unet(KERNEL, xt[i : i + 1], int(t[i]))
        assert torch.allclose(together.mean[i], alone.mean[0], atol=1e-5)
        assert torch.allclose(together.var[i], alone.var[0], rtol=1e-4)
    z_at = [unet.z(KERNEL, xt, torch.full((4,), t)) for t in (10, 30)]
    assert not torch.allclose(z_at[0], z_at[1], atol=1e-2), "the network knows t"


def test_t_scales_and_shifts_the_maps_of_a_block_each_image_by_its_own():
    block, h, time = moved(ResidualBlock(16, 32, 8)), torch.randn(2, 16, 4, 4), torch.randn(2, 8)
    changed = time.clone()
    changed[1] += 1
    difference = (block(h, changed) - block(h, time)).abs().amax((1, 2, 3))
    assert difference[0] == 0 and difference[1] > 1e-3


@pytest.mark.parametrize("levels, blocks, channels", [(1, 1, 16), (2, 2, 5), (4, 1, 20)])
def test_sizes(levels, blocks, channels):
    unet, xt = (
        moved(network(levels=levels, blocks=blocks, channels=channels)),
        torch.randn(2, 3, 16, 16),
    )
    p = unet(KERNEL, xt, 7)
    assert p.mean.shape == p.var.shape == xt.shape and (p.var > 0).all()


def test_an_image_that_cannot_be_halved_so_often_is_refused():
    with pytest.raises(ParameterError, match="levels is 3.*14 × 14.*4"):
        network(shape=(1, 14, 14))


def test_differences_far_below_the_precision_of_bfloat16_are_seen_at_small_t():
    unet, smooth = network(), torch.full((1, 3, 16, 16), 1.5)
    rough = smooth + 1e-3 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(smooth.bfloat16(), rough.bfloat16())
    kernel = GaussianKernel(
        schedule("even_log_snr", 50, beta_1=1e-6, alpha_bar_T=1e-3), event_dim=3
    )
    early, late = (
        unet.seen(kernel, rough, torch.tensor([t])).bfloat16()[:, 3:, 1:-1, 1:-1].std()
        for t in (1, 50)
    )
    assert early > 0.5 and late < 0.01, "of order one where the noise is as small as they are"


def test_waves_tell_where_between_two_levels_a_pixel_lies_as_far_as_noise_leaves_it():
    grey, random = (
        torch.rand(200_000, generator=torch.Generator().manual_seed(4)) * 5,
        torch.Generator().manual_seed(5),
    )
    clean = grey_waves(grey, torch.zeros(()), 2)
    for wave, shifted in zip(clean, grey_waves(grey + 3, torch.zeros(()), 2), strict=True):
        assert torch.allclose(wave, shifted, atol=1e-4), "of a level, not of which one"
    assert torch.allclose(clean[2], torch.sin(4 * math.pi * grey)) and torch.allclose(
        clean[3], torch.cos(4 * math.pi * grey)
    )
    # The mean of a wave under noise is the wave itself, as high as it is drawn.
    noise, place = 0.15, torch.tensor([0.1, 0.3, 0.8])
    noisy = place[:, None] + noise * torch.randn(3, 200_000, generator=random)
    means = [wave.mean(1) for wave in grey_waves(noisy, torch.zeros(()), 2)]
    assert torch.allclose(
        torch.stack(means), torch.stack(grey_waves(place, torch.tensor(noise), 2)), atol=0.01
    )
    assert max(wave.abs().max() for wave in grey_waves(grey, torch.tensor(2.0), 2)) < 1e-6


def test_waves_are_of_the_data_s_own_levels():
    unet, kernel = (
        network(shape=(1, 16, 16), waves=2),
        GaussianKernel(schedule("even_log_snr", 50, beta_1=1e-6, alpha_bar_T=1e-3), event_dim=3),
    )
    unet.constants.copy_(torch.tensor([30.0, 60.0]))
    t = torch.tensor([2])
    grey = torch.linspace(0, 3, 256).reshape(1, 1, 16, 16)
    xt = kernel.at(kernel.alpha_bar.sqrt(), t, grey) * (grey - 30) / 60
    seen = unet.seen(kernel, xt, t)
    assert seen.shape[1] == 1 + 8 + 4 == unet.first.in_channels
    noise = (kernel.one_minus_alpha_bar / kernel.alpha_bar).sqrt()[2] * 60
    expected = torch.cat(grey_waves(grey, noise.float(), 2), 1)
    assert torch.allclose(seen[:, 9:], expected, atol=1e-3) and expected.abs().max() > 0.3
    assert torch.equal(seen[:, :9], network(shape=(1, 16, 16)).seen(kernel, xt, t)), (
        "the rest is as without waves"
    )


def test_maps_are_as_wide_as_widest_allows():
    shapes = {
        w: {
            layer.out_channels
            for layer in network(widest=w).modules()
            if isinstance(layer, torch.nn.Conv2d)
        }
        for w in (1, 2, 4)
    }
    assert 64 in shapes[4] and max(shapes[2] - {48, 96, 192}) == 32 and 32 not in shapes[1]


def test_half_precision_on_disk_is_what_is_measured(tmp_path):
    halves, wholes = (
        ImageModel(**vars(dataclasses.replace(quick("cifar10_unet"), stored_in=dtype)))
        for dtype in ("float16", "float32")
    )
    for model in (halves, wholes):
        model.constants.copy_(torch.tensor([100.0, 60.0]))
        moved(model.network)
        model.finish()
        (tmp_path / f"{model.params.stored_in}.safetensors").write_bytes(
            weights_bytes(model, "cifar10_unet")
        )
    sizes = [(tmp_path / f"{dtype}.safetensors").stat().st_size for dtype in ("float16", "float32")]
    assert sizes[0] < 0.6 * sizes[1]
    read = load_weights(tmp_path / "float16.safetensors", "cifar10_unet")
    xt = torch.randn(1, *halves.network.shape)
    outputs = [model.network(model.kernel(), xt, 3).mean for model in (read, halves, wholes)]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])
    assert torch.allclose(outputs[1], outputs[2], atol=1e-2)
    assert all(value.dtype == torch.float32 for value in read.network.parameters())


def test_a_gpu_computes_float32_as_such_and_trains_compiled_maps(monkeypatch):
    calls, unet = [], network()
    monkeypatch.setattr(
        torch, "compile", lambda function: lambda *given: calls.append(1) or function(*given)
    )
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    given = torch.randn(1, 3, 16, 16), torch.tensor([3])
    with prepared(unet, "cuda"):
        assert not torch.backends.cudnn.allow_tf32
        inside = unet.z(KERNEL, *given)
        with torch.no_grad():
            unet.z(KERNEL, *given)
        assert len(calls) == 1, "compiled where gradients are recorded, and nowhere else"
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before
    assert torch.equal(unet.z(KERNEL, *given), inside) and len(calls) == 1
    with prepared(unet, "cpu"):
        unet.z(KERNEL, *given)
    assert len(calls) == 1


def test_without_a_compiler_training_goes_on_and_says_so_once(monkeypatch, capsys):
    def no_compiler(*_):
        raise RuntimeError("no C compiler\nfound")

    monkeypatch.setattr(torch, "compile", lambda _: no_compiler)
    unet, given = network(), (torch.randn(1, 3, 16, 16), torch.tensor([3]))
    expected = unet.z(KERNEL, *given)
    with prepared(unet, "cuda"):
        assert torch.equal(unet.z(KERNEL, *given), expected) and torch.equal(
            unet.z(KERNEL, *given), expected
        )
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "without compiled code" in said and "no C compiler" in said


def test_attention_sees_every_place_and_treats_places_alike():
    attention, h = moved(Attention(32)), torch.randn(2, 32, 4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))

    def permuted(x):
        return x.flatten(2)[:, :, order].reshape(x.shape)

    assert torch.allclose(attention(permuted(h)), permuted(attention(h)), atol=1e-5)
    changed = h.clone()
    changed[:, :, 0, 0] += 3
    assert (attention(changed) - attention(h))[:, :, 3, 3].abs().max() > 1e-3


def test_time_features_tell_neighbouring_steps_apart():
    features = time_features(KERNEL, torch.arange(1, 51))
    assert features.shape == (50, 16) and features.abs().max() <= 1
    assert torch.cdist(features[:-1], features[1:]).diag().min() > 0.05


def test_training_raises_K(monkeypatch):
    monkeypatch.setattr(ImageModel, "validate", partialmethod(ImageModel.validate, 40, 4))
    changes = {"train_steps": 20, "channels": 8, "batch": 8, "n_steps": 40, "ema": 0.7}
    params = quick("cifar10_unet", changes)
    model, curve = train("cifar10_unet", params, log_every=10)
    assert curve[-1]["K_validation"] > curve[0]["K_validation"] + 0.3
    assert len(model.groups()) == 1 and sum(len(g["params"]) for g in model.groups()) == len(
        list(model.network.parameters())
    )


@pytest.mark.parametrize("left_out", ["told_t", "differences"])
def test_what_the_network_sees_can_be_taken_from_it(left_out):
    unet, xt = moved(network(**{left_out: False})), torch.randn(2, 3, 16, 16)
    seen = unet.seen(KERNEL, xt, torch.tensor([5, 5]))
    assert seen.shape[1] == (3 if left_out == "differences" else 27) == unet.first.in_channels
    z = [unet.z(KERNEL, xt, t) for t in (5, 40)]
    if left_out == "told_t":  # t then reaches it through the unit of the differences alone
        unet.differences.weight.data.zero_()
        z = [unet.z(KERNEL, xt, t) for t in (5, 40)]
    assert torch.equal(*z) is (left_out == "told_t")
