import pytest
import torch

from nonequilibrium.bound.bound import L_null, full_bound
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import even_log_snr_schedule, inverse_schedule
from nonequilibrium.network.toys import MLPNetwork, NormalisedRBF, RBFNetwork, StepReadout, k_means
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_each_step_has_a_readout_of_its_own():
    readout = StepReadout(5, 3, 2)
    features = torch.randn(2, 4, 3, generator=seeded(0))
    readout(features, torch.tensor([2, 4])).sum().backward()
    used = readout.weight.grad.abs().sum((1, 2)) > 0
    assert used.tolist() == [False, False, True, False, True, False]


def test_readout_gives_the_same_for_one_step_and_for_a_block():
    readout = StepReadout(5, 3, 2, knots=4)
    torch.nn.init.normal_(readout.weight, generator=seeded(1))
    torch.nn.init.normal_(readout.shared, generator=seeded(2))
    features = torch.randn(2, 4, 3, generator=seeded(0))
    block = readout(features, torch.tensor([2, 4]))
    assert torch.allclose(block[0], readout(features[0], 2)) and torch.allclose(
        block[1], readout(features[1], 4)
    )


def test_folding_the_shared_part_changes_nothing():
    readout = StepReadout(9, 3, 2, knots=4)
    torch.nn.init.normal_(readout.shared, generator=seeded(2))
    features, t = torch.randn(9, 4, 3, generator=seeded(0)), torch.arange(1, 10)
    before = readout(features, t)
    readout.fold()
    assert torch.allclose(readout(features, t), before, atol=1e-6) and readout.shared is None
    assert before.std() > 0.1


def test_normalised_rbf_is_its_definition():
    rbf = NormalisedRBF(torch.randn(6, 2, generator=seeded(0)), 0.5)
    torch.nn.init.normal_(rbf.log_width, generator=seeded(1))
    torch.nn.init.normal_(rbf.log_amplitude, generator=seeded(2))
    x = torch.randn(10, 2, generator=seeded(3))
    square = (x[:, None] - rbf.centre).square().sum(-1)
    phi = torch.exp(rbf.log_amplitude - square / (2 * torch.exp(rbf.log_width) ** 2))
    assert torch.allclose(rbf(x), phi / phi.sum(1, keepdim=True), atol=1e-6)


def test_both_networks_start_at_L_null():
    law = SwissRoll(1e-2)
    kernel = GaussianKernel(even_log_snr_schedule(15, 1e-4, 0.05))
    network = RBFNetwork(kernel, law, seeded(0), width=1.0)
    x0 = law.sample(4000, seeded(1))
    bound = full_bound(kernel, lambda xt, t: network(kernel, xt, t), x0, seeded(2))
    assert abs(bound.K - L_null(kernel, x0).mean()) < 4 * bound.se + 0.05

    law, kernel = Heartbeat(), BinomialKernel(inverse_schedule(60), 0.2)
    network = MLPNetwork(kernel, law.dim, seeded(0), knots=8)
    x0 = law.sample(500, seeded(1))
    bound = full_bound(kernel, lambda xt, t: network(kernel, xt, t), x0, seeded(2))
    assert bound.K == pytest.approx(L_null(kernel, x0).mean().item(), abs=0.05)


def test_f_sigma_is_a_sigmoid_around_logit_beta():
    law, kernel = SwissRoll(1e-2), GaussianKernel(even_log_snr_schedule(15, 1e-4, 0.05))
    network = RBFNetwork(kernel, law, seeded(0), width=1.0)
    xt = torch.randn(3, 2, generator=seeded(1), dtype=torch.float64)
    assert torch.allclose(network(kernel, xt, 5).var, kernel.beta[5])
    torch.nn.init.constant_(network.log_var.bias, 100.0)
    assert (network(kernel, xt, 5).var <= 1).all()


@pytest.mark.parametrize("t", [2, 30, 60])
def test_f_b_is_the_posterior_averaged_over_the_estimate_of_the_data(t):
    kernel = BinomialKernel(inverse_schedule(60), 0.2)
    network = MLPNetwork(kernel, 20, seeded(0), knots=8)
    for parameter in (network.readout.shared, network.readout.weight, network.readout.bias):
        torch.nn.init.normal_(parameter, generator=seeded(1))
    xt = (torch.rand(7, 20, generator=seeded(2)) < 0.4).double()
    z = network.readout(network.hidden(xt), t).double()
    rate_0, rate_1 = (kernel.q_marginal(torch.full_like(xt, x0), t).rate for x0 in (0.0, 1.0))
    likelihood_0, likelihood_1 = (torch.where(xt == 1, rate, 1 - rate) for rate in (rate_0, rate_1))
    x0_hat = 0.2 * likelihood_1 * z.exp() / (0.2 * likelihood_1 * z.exp() + 0.8 * likelihood_0)
    from_0, from_1 = (kernel.q_posterior(torch.full_like(xt, x0), xt, t).rate for x0 in (0.0, 1.0))
    f_b = network(kernel, xt, t)
    assert torch.allclose(f_b.rate, x0_hat * from_1 + (1 - x0_hat) * from_0, rtol=1e-9)
    assert torch.allclose(
        network(kernel, xt.float(), t).logit.double(), f_b.logit, rtol=1e-3, atol=1e-4
    )
    several = network(kernel, xt.expand(2, 7, 20), torch.tensor([t, 17]))
    assert torch.allclose(several.logit[0], f_b.logit)


def test_half_of_the_sigmoid_units_are_on_at_the_start():
    kernel = BinomialKernel(inverse_schedule(60), 0.2)
    network = MLPNetwork(kernel, 20, seeded(0), knots=8)
    x = (torch.rand(20_000, 20, generator=seeded(1)) < 0.2).float()  # as π has it
    assert network.layers[0](x).mean(0).abs().max() < 0.02
    h = torch.full((1, 50), 0.5)
    for layer in network.layers[1:]:
        assert torch.allclose(layer(h), torch.zeros(1, 50), atol=1e-6)


def test_paper_sizes():
    kernel = BinomialKernel(inverse_schedule(2000), 0.2)
    network = MLPNetwork(kernel, 20, seeded(0))
    assert [layer.weight.shape for layer in network.layers] == [(50, 20), (50, 50), (50, 50)]
    assert network.readout.weight.shape == (2001, 50, 20)


def test_k_means_finds_clusters_and_lies_evenly_along_a_roll():
    corners = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]], dtype=torch.float64)
    points = (
        corners[:, None] + 0.1 * torch.randn(4, 50, 2, generator=seeded(1), dtype=torch.float64)
    ).flatten(0, 1)
    centres = k_means(points, 4, seeded(2))
    nearest = torch.cdist(corners, centres)
    assert nearest.amin(1).max() < 0.1 and len(set(nearest.argmin(1).tolist())) == 4
    roll = SwissRoll().sample(4000, seeded(3))
    from_means, from_points = (
        torch.cdist(roll, c).amin(1).square().mean()
        for c in (k_means(roll, 16, seeded(4)), roll[:16])
    )
    assert from_means < 0.6 * from_points
    assert torch.equal(k_means(roll, 16, seeded(4)), k_means(roll, 16, seeded(4)))


def test_centres_of_k_means_start_nearer_to_the_data():
    kernel, law = GaussianKernel(even_log_snr_schedule(40, 1e-6, 0.03)), SwissRoll()
    data = law.sample(4000, seeded(5)).float()
    networks = [RBFNetwork(kernel, law, seeded(0), centres=c) for c in ("points", "k_means")]
    blurred, means = (
        torch.cdist(data, network.rbf.centre).amin(1).square().mean() for network in networks
    )
    assert means < 0.5 * blurred


def test_the_roll_s_model_starts_where_its_parameters_say():
    data = SwissRoll().sample(4000, seeded(5)).float()
    squares = []
    for centres in ("points", "k_means"):
        model = EXPERIMENTS["swiss_roll"].model(**vars(load("swiss_roll", {"centres": centres})))
        squares.append(
            float(torch.cdist(data, model.network.rbf.centre.detach()).amin(1).square().mean())
        )
    assert squares[1] < 0.5 * squares[0] and load("swiss_roll").centres == "k_means"


def test_the_paper_s_readouts_are_linear_in_its_features():
    """D.1: f_μ, f_Σ and f_b are read out themselves, not by way of an estimate of x^0."""
    kernel = GaussianKernel(even_log_snr_schedule(8, 1e-3, 0.1))
    roll = RBFNetwork(kernel, SwissRoll(0.01), seeded(0), units=5, mean="paper")
    x, t = torch.randn(4, 2, generator=seeded(1), dtype=torch.float64), 3
    assert torch.allclose(roll(kernel, x, t).var, kernel.beta[t].expand(4, 2), rtol=1e-5)
    for readout in (roll.mean, roll.log_var):
        torch.nn.init.normal_(readout.weight, generator=seeded(2))
    phi, p = roll.rbf(x.float()), roll(kernel, x, t)
    assert torch.allclose(p.mean.float(), phi @ roll.mean.weight[t] + roll.mean.bias[t])
    z = phi @ roll.log_var.weight[t] + roll.log_var.bias[t]
    assert torch.allclose(p.var.float(), torch.sigmoid(z))

    flips = BinomialKernel(inverse_schedule(8), 0.2)
    beat = MLPNetwork(flips, 20, seeded(0), hidden=20, layers=2, knots=0, mean="paper")
    assert beat.readout.shared is None and beat.readout.weight.requires_grad
    torch.nn.init.normal_(beat.readout.weight, generator=seeded(2))
    bits = torch.ones(3, 20, dtype=torch.float64)
    assert torch.allclose(beat(flips, bits, t).logit, beat.readout(beat.hidden(bits), t).double())
