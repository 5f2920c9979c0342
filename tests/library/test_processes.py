"""Work that several processes share: the same gradient, the same numbers, and an end for all when
one is lost.
"""

import dataclasses
import os
import signal
import socket
import sys
from functools import partial

import pytest
import torch
from apart import started

from nonequilibrium import distributed as processes
from nonequilibrium.bound.bound import full_bound, sampled_bound
from nonequilibrium.data.toys import Heartbeat
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError, TrainingError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.network import precision
from nonequilibrium.training.checkpoint import Checkpoint
from nonequilibrium.training.fit import fit
from replication.__main__ import main
from replication.data.images import load_images
from replication.files import to_json
from replication.measure.images import PARTS
from replication.measure.measure import measure
from replication.measure.measured import Measured
from replication.settings.settings import evaluation, load, quick
from replication.training import train as experiment
from replication.training.train import train

LAUNCHED = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29511"}
STEPS = 24
SMALL = {
    "precision": "float32",
    "n_steps": 30,
    "ema": 0.9,
    "dense_units": 24,
    "pixel_units": 8,
    "bumps": 6,
    "batch": 32,
    "train_steps": STEPS,
}
PARAMS = [word for name, value in SMALL.items() for word in ("-p", f"{name}={value}")]
WORDS = ["train", "mnist_dense", *PARAMS, "-p", "data=digits"]


def small(**changes):
    return dataclasses.replace(quick("mnist_dense"), **(SMALL | changes))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- the same numbers


CASES = {
    "two networks": small(split=0.8),
    "a batch that cannot be halved, learned β": small(schedule="learned", batch=9, split=0.0),
    "convolutions": small(
        conv_layers=2, conv_channels=4, scales=5, dense_layers=0, dense_layers_above=0
    ),
}


def gradients():
    """Of the objective, by case and parameter, at the start of a training and one draw later, with
    its value.
    """
    found = {}
    for name, params in CASES.items():
        model = ImageModel(load_images("digits"), **vars(params))
        random = seeded(5)
        for draw in range(2):
            model.zero_grad()
            value = model.objective(random)
            value.backward()
            processes.synchronised(list(model.parameters()))
            found |= {(name, draw, each): p.grad for each, p in model.named_parameters()}
            found |= {
                (name, draw, "value"): value.detach(),
                (name, draw, "square"): model.square.clone(),
            }
    return found


def bounds():
    """K of untrained models by both estimators, and samples: everything that several processes
    share when they measure.
    """
    digits = ImageModel(load_images("digits"), **vars(small(split=0.8)))
    torch.nn.init.normal_(digits.network.networks[0].readout.weight, std=0.1, generator=seeded(1))
    x0 = digits.x0(load_images("digits").test[:70], seeded(2))
    with torch.no_grad():
        kernel = digits.kernel()
    reverse, found = digits.reverse(kernel), []
    found.append(sampled_bound(kernel, reverse, x0, seeded(3), 4, digits.proposal(), block=16))
    found.append(sampled_bound(kernel, reverse, x0, seeded(4), 1, stratified=False, block=100))
    found.append(
        full_bound(kernel, reverse, x0[:9], seeded(5), replicates=2, noisier_share=0.25, block=40)
    )
    bits = BinomialKernel(schedule("inverse", 40), pi=0.2)
    q = bits.q_marginal(torch.full((20,), 0.2).double(), 1)
    flips = Heartbeat().sample(50, seeded(6))
    found.append(
        full_bound(bits, lambda xt, t: type(q)(0.5 * xt - 1.0), flips, seeded(7), block=100)
    )
    drawn = sample_each(kernel, reverse, 25, (1, 8, 8), [3, 4], block=8)
    return [value for bound in found for value in (bound.kl, bound.rest, bound.replicates)] + [
        drawn
    ]


def stopped():
    """The sentence that ends a training when the weights of the last process become NaN."""
    model = ImageModel(load_images("digits"), **vars(small()))

    def sick(generator):
        if processes.rank() == processes.world() - 1:
            next(model.parameters()).data.fill_(torch.nan)
        return model.objective(generator)

    with pytest.raises(TrainingError) as error:
        fit(model, sick, model.groups(), 5, 0)
    return str(error.value)


def everything(model):
    """All that several processes share: gradients, bounds, samples, measuring and training."""
    its = dataclasses.replace(
        evaluation("mnist_dense", "quick"), n_heldout=120, draws=1, n_samples=120
    )
    with pytest.MonkeyPatch.context() as patch:  # tables of counts ask no network: none share them
        patch.setitem(PARTS, "histograms", lambda _: Measured({}))
        measured = measure("mnist_dense", model, its)
    trained, curve = train("mnist_dense", small(), log_every=8)
    return {
        "gradients": gradients(),
        "bounds": bounds(),
        "numbers": to_json(measured.numbers),
        "tables": {name: table.to_csv() for name, table in measured.tables.items()},
        "arrays": measured.arrays,
        "trained": trained.state_dict(),
        "curve": curve,
        "stopped": stopped(),
    }


def together(number, work, *given):
    """Processes that share ``work``, by the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    place = LAUNCHED | {"MASTER_PORT": port, "WORLD_SIZE": str(number)}
    return [started(work, *given, **place | {"RANK": str(rank)}) for rank in range(number)]


def shared(folder):
    """``everything`` by this process of several, of which the first writes it down."""
    with processes.group():
        result = everything(torch.load(folder / "model", weights_only=False))
    if processes.first():
        torch.save(result, folder / "result")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same by one process, and by three."""
    folder = tmp_path_factory.mktemp("shared")
    model, _ = train("mnist_dense", small())
    torch.save(model, folder / "model")
    group = together(3, shared, folder)
    alone = everything(model)
    for process in group:
        process.join(170)
        assert process.exitcode == 0
    return alone, torch.load(folder / "result", weights_only=False)


def test_the_gradient_of_three_processes_is_that_of_one_on_the_joined_batch(both):
    alone, together = (found["gradients"] for found in both)
    assert alone.keys() == together.keys() and any(value is None for value in alone.values())
    for key, value in alone.items():
        if value is None:
            assert together[key] is None, f"{key}: a layer that no image reaches has no gradient"
        else:
            scale = float(value.abs().max()) + 1e-12
            assert torch.allclose(together[key] / scale, value / scale, atol=2e-5), key


def test_a_training_by_three_processes_is_one_training(both):
    (alone, together), (curve, same) = ([found[x] for found in both] for x in ("trained", "curve"))
    assert [row["step"] for row in curve] == [row["step"] for row in same]
    for one, other in zip(curve, same, strict=True):
        assert one["K_validation"] == pytest.approx(other["K_validation"], abs=1e-3)
        assert one["K"] == pytest.approx(other["K"], abs=1e-3)
    assert alone.keys() == together.keys()


def test_a_bound_and_all_that_is_measured_are_the_same_whatever_the_number_of_processes(both):
    alone, together = both
    assert all(map(torch.equal, alone["bounds"], together["bounds"]))
    assert alone["numbers"] == together["numbers"] and alone["tables"] == together["tables"]
    for name, array in alone["arrays"].items():
        assert torch.equal(array, together["arrays"][name])
    assert alone["stopped"] == together["stopped"] and "K is nan" in alone["stopped"]


def test_somebody_else_s_process_group_shares_nothing_of_ours(tmp_path):
    from torch import distributed

    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    try:
        assert processes.world() == 1 and processes.rank() == 0 and processes.mine(1)
    finally:
        distributed.destroy_process_group()


# ---------------------------------------------------------------- the end of one is the end of all


def killed(model, objective, *arguments):
    """``fit``, in step 15 of which the second process is killed."""
    count = 0

    def counted(generator):
        nonlocal count
        count += 1
        if count == 15 and processes.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return objective(generator)

    return fit(model, counted, *arguments)


def training(folder):
    """The command, in the second process of which ``killed`` is at work; what it says is kept."""
    experiment.ROOT, experiment.fit = folder, killed
    experiment.Checkpoint = partial(Checkpoint, every_seconds=0.0)
    sys.stderr = (folder / f"said {os.environ['RANK']}").open("w", buffering=1)
    sys.exit(main([*WORDS, "--outputs", str(folder)]))


def test_when_one_is_killed_the_other_says_so_and_one_alone_goes_on(tmp_path, monkeypatch):
    first, second = together(2, training, tmp_path)
    try:
        first.join(170)
        second.join(170)
        assert (first.exitcode, second.exitcode) == (1, -signal.SIGKILL)
    finally:
        first.kill()
        second.kill()
    assert (tmp_path / "said 0").read_text() == (
        "error: process 1 of 2 has lost another one; the same command goes on from the last "
        "checkpoint, if one was saved\n"
    )
    params, steps = load("mnist_dense", SMALL | {"data": "digits"}), []

    def counted(model, objective, *arguments):
        return fit(model, lambda random: steps.append(1) or objective(random), *arguments)

    monkeypatch.setattr(experiment, "fit", counted)
    resumed, _ = train("mnist_dense", params, tmp_path / ".checkpoints")
    assert len(steps) == STEPS - 14
    whole, _ = train("mnist_dense", params)
    assert resumed.validate() == pytest.approx(whole.validate(), abs=1e-3)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"RANK": "one"}, "the variable RANK is 'one'"),
        ({"WORLD_SIZE": "two"}, "the variable WORLD_SIZE is 'two'"),
        ({"MASTER_PORT": "-1"}, "the variable MASTER_PORT is '-1'"),
        ({"RANK": "4"}, "RANK is 4; it must be less than WORLD_SIZE, 4"),
        ({"MASTER_ADDR": "no.such.host.invalid"}, "cannot meet by MASTER_ADDR=no.such.host"),
    ],
)
def test_variables_that_no_launcher_sets_are_refused_before_anything_waits(
    changes, words, monkeypatch
):
    for name, value in (LAUNCHED | changes).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match=words), processes.group():
        pass


def test_a_port_that_is_taken_is_no_lost_process(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name, value in (LAUNCHED | {"RANK": "0", "MASTER_PORT": port}).items():
            monkeypatch.setenv(name, value)
        words = f"cannot meet by MASTER_ADDR=localhost, MASTER_PORT={port}: .*in use"
        with pytest.raises(ParameterError, match=words), processes.group():
            pass


def test_variables_that_a_launcher_left_behind_mean_one_process(monkeypatch):
    for name in LAUNCHED:
        for other, value in LAUNCHED.items():
            monkeypatch.setenv(other, "" if other == name else value)
        assert processes.launched() == (0, 1) and processes.first()


def test_a_toy_trains_in_one_process_and_a_batch_has_a_share_for_each(monkeypatch):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match="a toy has no share"):
        train("swiss_roll", load("swiss_roll"))
    with pytest.raises(ParameterError, match="a batch of 3 has no share for each of 4"):
        train("mnist_dense", small(batch=3))
    assert not processes.first()


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("name", ["cifar10", "cifar10_unet"])
def test_training_may_compute_in_bfloat16_and_bounds_never_do(name, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: True)  # a CPU without it emulates it
    options = {"data": "digits", "precision": "bfloat16", "n_steps": 30, "batch": 8}
    low = dataclasses.replace(quick(name), **options)
    images, models = load_images("digits"), {}
    for each in (low, dataclasses.replace(low, precision="float32")):
        models[each.precision] = model = ImageModel(images, **vars(each))
        torch.nn.init.normal_(model.network.readout.weight, std=0.05, generator=seeded(1))
    draws = {kind: model.train().objective(seeded(2)) for kind, model in models.items()}
    assert draws["bfloat16"].dtype == torch.float32 and not torch.equal(*draws.values()), (
        "training is of low precision"
    )
    draws["bfloat16"].backward()
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in models["bfloat16"].parameters())
    x0, found = models["float32"].x0(images.test[:10], seeded(3)), []
    for model in models.values():
        model.eval()
        with torch.no_grad():
            kernel = model.kernel()
        found.append(sampled_bound(kernel, model.reverse(kernel), x0, seeded(4), 2, block=5))
    assert found[0].kl.dtype == torch.float64 and torch.equal(found[0].kl, found[1].kl)
