"""Posteriors on images as they are measured: what is seen, the other methods, the ways r enters,
and the average (9).
"""

import builtins
from types import SimpleNamespace

import pytest
import torch
from test_evidence import chain

from nonequilibrium.bound.bound import full_bound
from nonequilibrium.bound.theory import estimates, log_ratios
from nonequilibrium.data.images import Scale
from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError
from replication.__main__ import main
from replication.data.images import load_images
from replication.restoration import observations, restorations, ways
from replication.restoration.restorations import averages, image_log_ratios

PHOTOGRAPHS = load_images("photographs")


# ---------------------------------------------------------------- the average (9)


def correlated_images():
    place = torch.stack(
        torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"), -1
    ).reshape(-1, 2)
    C = 0.9 ** (place[:, None] - place[None]).abs().sum(-1).double()
    kernel, reverse = chain(C.numpy(), 60, (1, 4, 4))
    x0 = torch.linalg.cholesky(C) @ torch.randn(
        16, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    x0 = x0.T.reshape(12, 1, 4, 4)
    log_p = torch.distributions.MultivariateNormal(
        torch.zeros(16, dtype=torch.float64), C
    ).log_prob(x0.flatten(1))

    def at_any_t(xt, t):
        if not isinstance(t, torch.Tensor) or not t.dim():
            return reverse(xt, int(t))
        parts = [reverse(x[None], int(step)) for x, step in zip(xt, t, strict=True)]
        return Normal(*(torch.cat(values) for values in zip(*parts, strict=True)))

    return kernel, at_any_t, x0, log_p


def test_averages_on_images_rise_from_K_and_stay_below_log_p():
    kernel, reverse, x0, log_p = correlated_images()
    log_ratio = image_log_ratios(kernel, reverse, x0, 1500, torch.Generator().manual_seed(1))
    assert log_ratio.shape == (1500, 12)
    bound = full_bound(kernel, reverse, x0, torch.Generator().manual_seed(2), replicates=8)
    error = float(log_ratio.std(0).mean()) / (1500 * 12) ** 0.5
    assert abs(float(log_ratio.mean()) - bound.K) < 4 * (error + bound.mc_se), (
        "one trajectory has the expectation K"
    )
    rows = averages(log_ratio, (1, 10, 100, 500), pixels=16, seed=3)
    gains = [row["gain"] for row in rows]
    assert gains[0] == pytest.approx(0, abs=1e-9) and all(
        a < b for a, b in zip(gains, gains[1:], strict=False)
    )
    assert all(row["low"] <= row["gain"] <= row["high"] for row in rows)
    assert bound.K < estimates(log_ratio, 500).mean() < log_p.mean() + 4 * error


def test_ratios_of_images_are_those_of_the_same_numbers_in_a_row():
    kernel, reverse, x0, _ = correlated_images()
    row = GaussianKernel(kernel.beta[1:])
    of_row = log_ratios(
        row,
        lambda xt, t: Normal(*(v.reshape(xt.shape) for v in reverse(xt.reshape(-1, 1, 4, 4), t))),
        x0[:1].flatten(1),
        30,
        torch.Generator().manual_seed(4),
    )
    of_image = image_log_ratios(kernel, reverse, x0[:1], 30, torch.Generator().manual_seed(4))
    assert torch.allclose(of_row, of_image)


# ---------------------------------------------------------------- what is seen, and other methods


def test_masks_hide_what_they_say():
    hidden = {
        name: float((~task.known).double().mean())
        for name, task in observations.tasks(32, 32).items()
        if task.A and task.known is not None
    }
    assert hidden["inpainting, centre"] == 0.25 and hidden["inpainting, right half"] == 0.5
    assert 0.05 < hidden["inpainting, thin strokes"] < 0.3
    assert hidden["inpainting, 80 % at random"] == pytest.approx(0.8, abs=0.03)
    thick = torch.nn.functional.max_pool2d(observations.strokes(32, 32)[None].float(), 5, stride=1)
    assert thick.mean() > 0.97, "no stroke hides a block of 5 × 5"


def test_a_task_sees_A_x_with_its_noise():
    x = torch.randn(400, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for task in observations.tasks(32, 32).values():
        y = task.seen(x, torch.Generator().manual_seed(1))
        if task.known is not None:
            assert torch.equal(y, torch.where(task.known, x, 0.0))
        else:
            off = y - (x if task.A is None else task.A(x))
            assert float(off.var()) == pytest.approx(task.var, rel=0.05)


def test_other_methods_mend_what_was_spoilt():
    scale = Scale.of(PHOTOGRAPHS.train)
    train = scale.dequantise(PHOTOGRAPHS.train, torch.Generator().manual_seed(0))
    clean = scale.dequantise(PHOTOGRAPHS.test[:4], torch.Generator().manual_seed(1))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    found, left_out = observations.bm3d(clean + noise, 1.0)
    found |= observations.smoothed(clean + noise, train, torch.Generator().manual_seed(3))
    error = {name: float((x - clean).square().mean()) for name, x in found.items()}
    assert all(
        value < 0.6 * error["the noisy image itself"]
        for name, value in error.items()
        if "itself" not in name
    )
    assert ("BM3D" in found) is (left_out == "")
    small, _ = observations.others(
        observations.tasks(32, 32)["4× super-resolution"],
        PHOTOGRAPHS.test[:4],
        torch.nn.functional.avg_pool2d(clean, 4),
        scale,
        train,
        None,
    )
    assert {name: x.shape for name, x in small.items()} == dict.fromkeys(
        ("blocks as they are", "bicubic", "Wiener filter"), clean.shape
    )


def test_without_bm3d_it_is_left_out_and_that_is_said(monkeypatch):
    whole = builtins.__import__
    monkeypatch.setattr(
        observations.importlib, "import_module", lambda name: whole("no_such_package")
    )
    found, left_out = observations.bm3d(torch.zeros(1, 1, 8, 8), 1.0)
    assert found == {} and "nonequilibrium[measure]" in left_out


def test_images_that_are_no_larger_than_its_block_never_reach_bm3d(monkeypatch):
    """There the library ends the process."""
    module = SimpleNamespace(bm3d=lambda *_: pytest.fail("called"))
    monkeypatch.setattr(observations.importlib, "import_module", lambda _: module)
    for shape in ((8, 8), (4, 32), (32, 7)):
        found, left_out = observations.bm3d(torch.rand(1, 1, *shape), 1.0)
        assert found == {} and "no larger than a block of BM3D" in left_out


# ---------------------------------------------------------------- ways


class White:
    """A model of white Gaussian images, which is exact: x^0 given x^t has mean √ᾱ_t x^t and
    variance 1 − ᾱ_t.
    """

    scale = Scale.of(PHOTOGRAPHS.train)
    params = SimpleNamespace(n_steps=40)

    def thinned(self, n):
        kernel = GaussianKernel(
            schedule("even_log_snr", n, beta_1=1e-4, alpha_bar_T=1e-3), event_dim=3
        )

        def reverse(xt, t):
            a = kernel.at(kernel.alpha_bar, t, xt)
            q = kernel.q_posterior(a.sqrt() * xt, xt, t)
            return Normal(
                q.mean,
                (q.var + kernel.at(kernel.posterior_on_x0, t, xt) ** 2 * (1 - a)).expand_as(xt),
            )

        return kernel, reverse


@pytest.fixture(scope="module")
def found():
    sizes = SimpleNamespace(model="white", images=3, samples=2, steps=12, solve=2)
    return ways.restored(White(), PHOTOGRAPHS, sizes, 7)


def test_every_task_has_every_way_beside_other_methods(found):
    its = found.numbers["restored"]
    assert list(its["tasks"]) == list(observations.tasks(32, 32)) and its["thin_steps"] == 12
    for task, entry in its["tasks"].items():
        methods = [row["method"] for row in entry["rows"]]
        assert len(set(methods)) == len(methods)
        assert f"mean of 2 samples, {ways.THROUGH}" in methods
        if task.startswith("inpainting"):
            cheap = (ways.CONSTANT, ways.REPLACEMENT, ways.RENOISED)
            assert (
                all(f"one sample, {way}" in methods for way in cheap)
                and "biharmonic" in entry["gains"]
            )
        for row in entry["rows"]:
            assert all(
                torch.isfinite(torch.tensor(row[key]))
                for key in ("PSNR", "PSNR_se", "SSIM", "spectrum")
            )
        assert found.arrays[its["keys"][task]].shape[:2] == (len(entry["strips"]), 3)


def test_what_is_known_comes_out_as_given(found):
    its = found.numbers["restored"]
    for name, task in observations.tasks(32, 32).items():
        if task.known is not None:
            pictures = found.arrays[its["keys"][name]]
            assert (pictures[..., task.known] == pictures[0][..., task.known]).all()


def test_other_methods_are_given_the_training_images_and_no_others(monkeypatch):
    given = []

    def noted(_, test, train):
        given.append(train)
        return {}, test

    monkeypatch.setattr(ways, "restored_task", noted)
    sizes = SimpleNamespace(model="white", images=3, samples=2, steps=12, solve=2)
    ways.restored(White(), PHOTOGRAPHS, sizes, 7)
    assert len(given) == len(observations.tasks(32, 32))
    for x in given:  # noise of one grey level is what x has beside its pixels
        noise = x * White.scale.sigma + White.scale.mean - PHOTOGRAPHS.train
        assert noise.min() > -0.01 and noise.max() < 1.01


def test_a_gain_is_taken_image_by_image():
    ours, theirs = {"PSNR": torch.tensor([1.0, 2.0, 6.0])}, {"PSNR": torch.tensor([0.0, 1.0, 5.0])}
    assert ways.gain(ours, theirs) == {"PSNR": {"mean": 1.0, "se": 0.0}}


def test_a_chain_for_denoising_has_a_step_of_nearly_this_noise():
    chain = ways.noise_chain(White(), 1.0, 12)
    assert 12 <= chain[0].T <= 18
    assert ways.excess(chain[0], 1.0) == min(
        ways.excess(White().thinned(n)[0], 1.0) for n in range(12, 19)
    )


# ---------------------------------------------------------------- the command


def test_a_profile_that_is_none_is_refused():
    with pytest.raises(ParameterError, match="profile"):
        restorations.restorations("fulll")


def test_without_the_data_sets_the_command_says_so_and_writes_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(restorations, "present", lambda name: name != "mnist")
    assert main(["measure", "restorations", "--outputs", str(tmp_path)]) == 0
    assert "mnist not here" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_place_of_the_results_is_probed_before_hours_of_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(restorations, "present", lambda _: True)
    monkeypatch.setattr(restorations, "restorations", lambda _: pytest.fail("work has begun"))
    (tmp_path / "file").touch()
    assert main(["measure", "restorations", "--outputs", str(tmp_path / "file")]) == 1
    assert "restorations.json cannot be written" in capsys.readouterr().err
