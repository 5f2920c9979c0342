"""Work that several processes share: the same gradient, the same numbers, and an end for all when
one is lost.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from nonequilibrium.training.spawn import check_devices, run

from nonequilibrium.bound.bound import full_bound, sampled_bound
from nonequilibrium.data.toys import Heartbeat
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError, TrainingError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.network import precision
from nonequilibrium.training import distributed as processes
from nonequilibrium.training import fit as training
from nonequilibrium.training.checkpoint import step_of
from replication.data.images import load_images
from replication.files import to_json
from replication.measure.measure import measure
from replication.settings.settings import evaluation, load, quick
from replication.training import train as experiment
from replication.training.train import train

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
WORDS = [word for name, value in SMALL.items() for word in ("-p", f"{name}={value}")] + [
    "-p",
    "data=digits",
]


def small(**changes):
    return dataclasses.replace(quick("mnist_dense"), **(SMALL | changes))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- training


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
        objective, random = processes.synchronised(model), seeded(5)
        for draw in range(2):
            model.zero_grad()
            value = objective(random)
            value.backward()
            found |= {(name, draw, each): p.grad for each, p in model.named_parameters()}
            found |= {
                (name, draw, "value"): value.detach(),
                (name, draw, "square"): model.square.clone(),
            }
    return found


def test_the_gradient_of_two_processes_is_that_of_one_on_the_joined_batch():
    alone, together = gradients(), run(gradients, 2)
    assert alone.keys() == together.keys() and any(value is None for value in alone.values())
    for key, value in alone.items():
        if value is None:
            assert together[key] is None, f"{key}: a layer that no image reaches has no gradient"
        else:
            scale = float(value.abs().max()) + 1e-12
            assert torch.allclose(together[key] / scale, value / scale, atol=2e-5), key


def test_a_training_by_two_processes_is_one_training(tmp_path):
    saved = []
    alone, curve = train("mnist_dense", small(), log_every=8)
    shared, same = train(
        "mnist_dense",
        small(),
        tmp_path,
        log_every=8,
        save=lambda *result: saved.append(result),
        devices=2,
    )
    assert len(saved) == 1 and saved[0][0] is shared
    assert [row["step"] for row in curve] == [row["step"] for row in same]
    for one, other in zip(curve, same, strict=True):
        assert one["K_validation"] == pytest.approx(other["K_validation"], abs=1e-3)
        assert one["K"] == pytest.approx(other["K"], abs=1e-3)
    assert alone.state_dict().keys() == shared.state_dict().keys()
    assert not list(tmp_path.glob("*")), "a finished training leaves no checkpoint"


# ---------------------------------------------------------------- measuring


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


def test_the_bound_is_the_same_number_whatever_the_number_of_processes():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = bounds()
    torch.set_num_threads(threads)
    together = run(bounds, 3)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_everything_that_is_measured_is_the_same():
    model, _ = train("mnist_dense", small())
    its = dataclasses.replace(
        evaluation("mnist_dense", "quick"), n_heldout=120, draws=1, n_samples=120
    )
    alone, together = (
        measure("mnist_dense", model, its),
        measure("mnist_dense", model, its, devices=2),
    )
    assert to_json(alone.numbers) == to_json(together.numbers)
    assert all(table.equals(together.tables[name]) for name, table in alone.tables.items())
    assert all(torch.equal(array, together.arrays[name]) for name, array in alone.arrays.items())


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


def eager(*work):
    """What each process of a training does, with a checkpoint after every step; the second waits or
    goes wrong in step 15.
    """
    original, folder = training.fit, work[2].parent

    def fit(model, objective, *arguments, **options):
        count = step_of(work[2]) or 0

        def counted(generator):
            nonlocal count
            count += 1
            if count == 15 and processes.rank() == 1 and (folder / "nan").exists():
                next(model.parameters()).data.fill_(torch.nan)
            if count == 15 and processes.rank() == 1 and (folder / "wait").exists():
                (folder / "waits").write_text(f"{os.getpid()} {os.getppid()}")
                time.sleep(60)
            return objective(generator)

        return original(model, counted, *arguments, **options, every_seconds=0.0)

    experiment.fit = fit
    return FITTED(*work)


FITTED = experiment._fitted
COMMAND = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_processes
from pathlib import Path
from replication.__main__ import main
from replication.training import train
train.ROOT, train._fitted = Path(sys.argv[1]), test_processes.eager
if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
"""


def begun(folder):
    """A ``nonequilibrium train`` of two processes, the second of which waits in its 15th step; and
    that one's number.
    """
    checkpoints = folder / ".checkpoints"
    checkpoints.mkdir()
    (checkpoints / "wait").touch()
    words = ["train", "mnist_dense", *WORDS, "--devices", "2", "--outputs", str(folder)]
    command = [sys.executable, "-c", COMMAND, str(folder), *words]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    waits, until = checkpoints / "waits", time.monotonic() + 60
    while not (waits.exists() and waits.read_text()):
        assert started.poll() is None and time.monotonic() < until, started.communicate()
        time.sleep(0.05)
    (checkpoints / "wait").unlink()
    second, parent = map(int, waits.read_text().split())
    assert parent == started.pid
    return started, second


def living(session):
    """The command lines of the processes of this session that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its) == session and state != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            pass  # it has just ended
    return found


def nobody_left(session):
    """Whether no process of this session lives any more; what cleans up after Python may take a
    moment.
    """
    until = time.monotonic() + 10
    while living(session) and time.monotonic() < until:
        time.sleep(0.1)
    return not living(session)


needs_two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="--devices 2 needs two cores")


@needs_two
def test_when_one_is_killed_all_end_and_any_number_of_processes_goes_on(tmp_path):
    started, second = begun(tmp_path)
    os.kill(second, signal.SIGKILL)
    _, err = started.communicate(timeout=60)
    assert err == (
        "error: mnist_dense: process 2 of 2 was killed (signal 9); "
        "the checkpoint of step 14 is kept: run the same command to go on\n"
    )
    assert started.returncode == 1 and nobody_left(started.pid)
    params, steps = load("mnist_dense", SMALL | {"data": "digits"}), []
    original = training.fit

    def counted(model, objective, *arguments, **options):
        return original(
            model, lambda random: steps.append(1) or objective(random), *arguments, **options
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "fit", counted)
        resumed, _ = train("mnist_dense", params, tmp_path / ".checkpoints")
    assert len(steps) == STEPS - 14, "one process goes on where two were"
    whole, _ = train("mnist_dense", params)
    assert resumed.validate() == pytest.approx(whole.validate(), abs=1e-3)


@needs_two
def test_an_interrupt_ends_all(tmp_path):
    started, _ = begun(tmp_path)
    os.killpg(started.pid, signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (130, "error: interrupted\n") and nobody_left(started.pid)


def test_nan_in_one_process_stops_all_with_the_sentence_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "_fitted", eager)
    (tmp_path / "nan").touch()
    with pytest.raises(
        TrainingError, match="K is nan and its gradient's norm nan at step 15; .* last good state"
    ):
        train("mnist_dense", small(), tmp_path, devices=2)
    (tmp_path / "nan").unlink()
    assert step_of(next(tmp_path.glob("*.pt"))) == 14
    train("mnist_dense", small(), tmp_path)  # the sick parameter was never saved


# ---------------------------------------------------------------- torchrun


def test_torchrun_starts_the_same_training(tmp_path):
    alone, curve = train(
        "mnist_dense", load("mnist_dense", SMALL | {"data": "digits"}), log_every=500
    )
    words = ["train", "mnist_dense", *WORDS, "--outputs", str(tmp_path)]
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "-m",
        "nonequilibrium",
    ]
    done = subprocess.run(
        [sys.executable, *torchrun, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mnist_dense: K = ") == 1, "the first alone speaks"
    card = json.loads((tmp_path / "models" / "mnist_dense.json").read_text())
    assert card["K_validation"] == pytest.approx(curve[-1]["K_validation"], abs=1e-3)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "given, words",
    [
        ((0,), "devices is 0; it must be a whole number of processes, at least 1"),
        ((True,), "devices is True"),
        ((2.0,), "devices is 2.0"),
        ((9, "cpu", 8), "a batch of 8 has no share for so many, so at most 8"),
        ((100_000,), "devices is 100000; this machine's cores are"),
        ((2, "cuda:1"), "for a GPU each, device must be cuda"),
        ((1000, "cuda"), "this machine's GPUs are"),
    ],
)
def test_processes_that_cannot_be(given, words):
    with pytest.raises(ParameterError) as refused:
        check_devices(*given)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_devices_beside_torchrun(monkeypatch):
    for name, value in {
        "RANK": 1,
        "WORLD_SIZE": 4,
        "MASTER_ADDR": "there",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ParameterError, match="under torchrun its --nproc-per-node says how many"):
        check_devices(2)
    with pytest.raises(ParameterError, match="devices is 4; a batch of 3 has no share"):
        check_devices(1, "cpu", 3)
    assert processes.launched() and not processes.first()


def test_a_toy_trains_in_one_process(tmp_path):
    with pytest.raises(ParameterError, match="swiss_roll is a toy"):
        train("swiss_roll", load("swiss_roll"), tmp_path, devices=2)


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
    draws = {kind: model.objective(seeded(2)) for kind, model in models.items()}
    assert draws["bfloat16"].dtype == torch.float32 and not torch.equal(*draws.values()), (
        "training is of low precision"
    )
    draws["bfloat16"].backward()
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in models["bfloat16"].parameters())
    x0, found = models["float32"].x0(images.test[:10], seeded(3)), []
    for model in models.values():
        with torch.no_grad():
            kernel = model.kernel()
        found.append(sampled_bound(kernel, model.reverse(kernel), x0, seeded(4), 2, block=5))
    assert found[0].kl.dtype == torch.float64 and torch.equal(found[0].kl, found[1].kl)
