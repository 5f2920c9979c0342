import pytest
import torch
from torch.nn import functional as F

from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.network import precision
from nonequilibrium.network.image import (
    ImageNetwork,
    MultiScaleConv,
    SplitNetwork,
    TemporalReadout,
    tanh,
    time_bumps,
)
from nonequilibrium.network.outputs import PARAMETERISATIONS

KERNEL = GaussianKernel(schedule("even_log_snr", 50, beta_1=1e-4, alpha_bar_T=1e-3), event_dim=3)


SIZES = (
    {"n_steps": 50, "beta_1": 1e-4, "bumps": 6, "mean": "posterior", "precision": "float32"}
    | {"conv_layers": 2, "conv_channels": 5, "scales": 3, "activation": "softplus"}
    | {"dense_layers": 1, "dense_units": 12, "dense_channels": 4}
    | {"pixel_layers": 1, "pixel_units": 7}
)


def network(shape=(1, 8, 8), kind=ImageNetwork, **changes):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(40, shape[0], generator=generator)
    return kind(shape, generator, pixels, **(SIZES | changes))


def test_time_bumps_are_normalised_gaussians_of_63():
    g = time_bumps(1000, 11)
    assert g.shape == (1001, 11) and torch.allclose(g.sum(1), torch.ones(1001))
    centre, width = torch.linspace(0, 1000, 11), 100.0
    expected = torch.exp(-0.5 * ((370 - centre) / width) ** 2)
    assert torch.allclose(g[370], expected / expected.sum(), atol=1e-6)
    assert (g.argmax(1)[centre.long()] == torch.arange(11)).all()
    assert torch.allclose(time_bumps(10, 1), torch.ones(11, 1))


def test_the_readout_is_the_sum_over_bumps_of_62():
    readout = TemporalReadout(50, 6, 4, 3)
    torch.nn.init.normal_(readout.weight)
    torch.nn.init.normal_(readout.bias)
    features, t = torch.randn(5, 8, 8, 4), torch.tensor([2, 10, 10, 49, 50])
    z_mu, z_sigma = readout(features, t)
    y = torch.einsum("nhwf,jfc->nhwjc", features, readout.weight) + readout.bias
    z = torch.einsum("nj,nhwjc->nchw", time_bumps(50, 6)[t], y)
    assert torch.allclose(z_mu, z[:, :3], atol=1e-5) and torch.allclose(
        z_sigma, z[:, 3:], atol=1e-5
    )
    alone = readout(features, 10)
    assert torch.allclose(alone[0][1], z_mu[1], atol=1e-5) and torch.allclose(
        alone[1][2], z_sigma[2], atol=1e-5
    )


def test_multi_scale_convolution_pools_convolves_upsamples_and_sums():
    conv = MultiScaleConv(2, 3, scales=3)
    x = torch.randn(2, 2, 8, 8)
    expected = 0
    for scale, layer in enumerate(conv.convs):
        pooled = F.avg_pool2d(x, 2**scale) if scale else x
        expected = expected + F.interpolate(layer(pooled), scale_factor=2.0**scale, mode="nearest")
    assert torch.allclose(conv(x), expected, atol=1e-5)
    assert [layer.bias is not None for layer in conv.convs] == [True, False, False], (
        "one bias for the sum"
    )
    odd = torch.randn(1, 2, 6, 6)  # 6 halves once only
    assert conv(odd).shape == (1, 3, 6, 6)


def test_tanh_is_tanh():
    x = torch.linspace(-20, 20, 1001)
    assert torch.allclose(tanh(x), torch.tanh(x), atol=1e-6)


@pytest.mark.parametrize("mean", sorted(PARAMETERISATIONS))
@pytest.mark.parametrize(
    "paths", [{}, {"conv_layers": 0}, {"dense_layers": 0}, {"pixel_layers": 0}, {"pixel_layers": 2}]
)
def test_every_combination_gives_a_kernel_and_gradients(mean, paths):
    net = network(shape=(3, 8, 8), mean=mean, **paths)
    xt, t = torch.randn(4, 3, 8, 8), torch.tensor([2, 9, 30, 50])
    p = net(KERNEL, xt, t)
    assert p.mean.shape == p.var.shape == xt.shape and (p.var > 0).all()
    torch.nn.init.normal_(net.readout.weight, std=0.1)
    KERNEL.kl(KERNEL.q_posterior(xt, xt, t), net(KERNEL, xt, t)).sum().backward()
    assert all(
        q.grad is not None and torch.isfinite(q.grad).all() and q.grad.abs().sum() > 0
        for q in net.parameters()
    )


def test_the_paper_s_formulas_64_and_65():
    x, z_mu, z_sigma = torch.randn(3, 3, 1, 4, 4).unbind(0)
    t = torch.tensor([2, 20, 50])
    beta = KERNEL.beta[t].float()[:, None, None, None]
    p = PARAMETERISATIONS["paper"](KERNEL, x, t, z_mu, z_sigma)
    var = torch.sigmoid(z_sigma + torch.log(beta / (1 - beta)))
    assert torch.allclose(p.var, var) and torch.allclose(p.mean, (x - z_mu) * (1 - var) + z_mu)
    p = PARAMETERISATIONS["reference"](KERNEL, x, t, z_mu, z_sigma)
    assert torch.allclose(p.var, var) and torch.allclose(
        p.mean, x * torch.sqrt(1 - beta) + z_mu * torch.sqrt(beta)
    )


def test_the_posterior_parameterisation_is_exact_when_z_is_the_noise():
    generator = torch.Generator().manual_seed(0)
    x0, noise = (
        torch.randn(3, 1, 4, 4, generator=generator),
        torch.randn(3, 1, 4, 4, generator=generator),
    )
    t = torch.tensor([2, 20, 50])
    xt = KERNEL.sample(KERNEL.q_marginal(x0, t), noise=noise)
    p = PARAMETERISATIONS["posterior"](KERNEL, xt, t, noise, torch.zeros_like(noise))
    q = KERNEL.q_posterior(x0, xt, t)
    assert torch.allclose(p.mean, q.mean, atol=1e-5) and torch.allclose(
        p.var, q.var.expand_as(p.var)
    )
    assert KERNEL.kl(q, p).abs().max() < 1e-3


def test_units_of_the_first_pixel_layer_start_as_steps_of_many_widths():
    net = network(conv_layers=0, dense_layers=0, pixel_units=20)
    slope = net.pixel[0].weight[:, 0].abs().detach()
    assert slope.min() == pytest.approx(1, rel=1e-4) and slope.max() == pytest.approx(
        1 / 0.02, rel=1e-4
    )
    place = -net.pixel[0].bias.detach() / net.pixel[0].weight[:, 0]
    assert place.abs().max() < 4, "steps lie where pixels do"


def test_low_precision_is_for_training_and_stays_near_float32(monkeypatch):
    torch.manual_seed(0)
    exact, low = network(dense_layers=0), network(dense_layers=0, precision="bfloat16")
    low.load_state_dict(exact.state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(low.features(x), exact.features(x)), "it is for training alone"
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: True)  # a CPU may emulate it
    low.train()
    assert low.features(x).dtype == torch.float32
    assert 0 < (low.features(x) - exact.features(x)).abs().max() < 0.05


def test_what_the_network_says_of_an_image_does_not_depend_on_the_batch():
    net = network()
    torch.nn.init.normal_(net.readout.weight, std=0.1)
    x, t = torch.randn(4, 1, 8, 8), torch.tensor([2, 3, 40, 50])
    together, alone = net(KERNEL, x, t), net(KERNEL, x[2:3], t[2:3])
    assert isinstance(together, Normal) and torch.allclose(
        together.mean[2:3], alone.mean, atol=1e-5
    )
    assert torch.isfinite(together.var).all()


def test_the_first_maps_start_as_differences_and_units_as_steps_at_them():
    net = network(shape=(3, 8, 8), conv_channels=8, pixel_units=8)
    smooth = torch.full((1, 3, 8, 8), 0.7)
    maps = net.convs[0](smooth)[0, :, 1:-1, 1:-1]
    assert maps[:6].abs().max() < 1e-5 and maps[6:].abs().min() > 1e-3, (
        "differences vanish where an image is constant"
    )
    fine, maps_seen = net.pixel[0].weight[:6], slice(3, 9)
    assert (fine[:, :3] == 0).all() and (fine[:, 9:] == 0).all() and (fine[:, maps_seen] != 0).all()
    assert (torch.diff(fine[:, maps_seen].norm(dim=1)) > 0).all(), "from wide steps to narrow ones"


def test_z_of_the_velocity_is_the_velocity():
    """z^μ = √ᾱ_t ε − √(1−ᾱ_t) x^0 gives the mean of q(x^{t−1}|x^t, x^0); stored weights rely on
    this sign.
    """
    x0, noise = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    t = torch.tensor([2, 20, 50])
    xt = KERNEL.sample(KERNEL.q_marginal(x0, t), noise=noise)
    signal, left = (
        KERNEL.at(c.sqrt(), t, x0) for c in (KERNEL.alpha_bar, KERNEL.one_minus_alpha_bar)
    )
    z = signal * noise - left * x0
    p = PARAMETERISATIONS["velocity"](KERNEL, xt, t, z, torch.zeros_like(z))
    assert torch.allclose(p.mean, KERNEL.q_posterior(x0, xt, t).mean, atol=1e-5)


def test_velocity_zero_is_optimal_for_white_gaussian_data():
    x0, t = torch.zeros(1, 1, 1, 1), 20
    xt = torch.full((1, 1, 1, 1), 1.3)
    p = PARAMETERISATIONS["velocity"](KERNEL, xt, t, torch.zeros(()), torch.zeros(()))
    # For x^0 ~ N(0, 1) every marginal is N(0, 1), so E[x^{t−1}|x^t] = √(1−β_t) x^t.
    assert torch.allclose(p.mean, xt * (1 - KERNEL.beta[t]).sqrt().float(), atol=1e-6)
    assert torch.allclose(p.var, KERNEL.q_posterior(x0, xt, t).var.float())


@pytest.mark.parametrize("pixel_layers", [0, 1])
def test_dense_values_are_z_at_the_start(pixel_layers):
    """z^μ is zero at first, and what the dense path's last layer then says of a pixel's colour is
    its z^μ at every t.
    """
    shape = (3, 4, 6)
    net = network(shape=shape, conv_layers=0, dense_channels=4, pixel_layers=pixel_layers)
    xt, said = torch.randn(5, *shape), torch.randn(4, 6, 3)
    for t in (2, 30):
        z_mu, z_sigma = net.readout(net.features(xt), t)
        assert not z_mu.any() and not z_sigma.any()
    with torch.no_grad():
        net.dense[-1].bias.unflatten(0, (4, 6, 4))[..., :3] = said
    for t in (2, 30):
        z_mu, z_sigma = net.readout(net.features(xt), t)
        torch.testing.assert_close(z_mu, said.movedim(-1, 0).expand(5, 3, 4, 6))
        assert not z_sigma.any()


def test_the_second_network_has_the_layers_named_for_it():
    net = network(
        kind=SplitNetwork,
        split=0.5,
        dense_layers=2,
        dense_layers_above=4,
        pixel_layers=1,
        pixel_layers_above=0,
    )
    assert [len(part.dense) - 1 for part in net.networks] == [2, 4]
    assert [len(part.pixel) for part in net.networks] == [1, 0]


def test_each_step_has_the_network_of_its_noise():
    net = network(kind=SplitNetwork, split=0.5)
    for part in net.networks:
        torch.nn.init.normal_(part.readout.weight, generator=torch.Generator().manual_seed(1))
    sigma = (KERNEL.one_minus_alpha_bar / KERNEL.alpha_bar).sqrt()
    last = int((sigma <= 0.5).sum()) - 1  # t = 0 counts too
    xt, t = torch.randn(6, 1, 8, 8), torch.tensor([50, 2, last + 1, last, 40, 3])
    p = net(KERNEL, xt, t)
    for i, second in enumerate([True, False, True, False, True, False]):
        alone = net.networks[int(second)](KERNEL, xt[i : i + 1], t[i : i + 1])
        other = net.networks[int(not second)](KERNEL, xt[i : i + 1], t[i : i + 1])
        assert torch.allclose(p.mean[i], alone.mean[0], atol=1e-6) and torch.allclose(
            p.var[i], alone.var[0], atol=1e-6
        )
        assert not torch.allclose(p.mean[i], other.mean[0], atol=1e-6)
        by_number = net(KERNEL, xt[i : i + 1], int(t[i]))
        assert torch.allclose(by_number.mean, alone.mean, atol=1e-6)
    few = net(KERNEL, xt[1:2], t[1:2])
    assert torch.allclose(few.mean[0], p.mean[1], atol=1e-6), "a batch that needs one network only"


def test_a_plain_network_passes_on_what_its_paths_end_in_and_nothing_else():
    plain, ours = network(plain=True), network()
    assert plain.pixel[0].in_features == 5 + 4  # the last maps, and the values of the dense path
    assert ours.pixel[0].in_features == 1 + 2 * 5 + 4
    assert not plain.readout.weight.any() and ours.readout.weight.any()
    inside = plain.features(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert inside.shape == (2, 8, 8, 7) and inside.abs().max() <= 1, "the tanh of the 1×1 layer"
