"""Training as a GPU does it, on a CPU: SOAP in batches, steps that are recorded, and values that
are read late.
"""

import contextlib

import pytest
import torch
from torch import nn

from nonequilibrium.errors import TrainingError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.network import image, unet
from nonequilibrium.training import fit as fitting
from nonequilibrium.training.checkpoint import Checkpoint, read_state
from nonequilibrium.training.devices import BEFORE, Recorded
from nonequilibrium.training.fit import Ascent, Watch, fit
from nonequilibrium.training.optimiser import SOAP, BatchedSOAP, _weight, orthogonal_iteration
from replication.data.images import load_images
from replication.data.textures import training_data
from replication.settings import settings
from replication.settings.registry import EXPERIMENTS


@pytest.fixture
def replaying(monkeypatch):
    """Training goes the way of a GPU, but that every step is computed and not replayed."""
    monkeypatch.setattr(fitting, "RECORDING", ("cpu",))
    monkeypatch.setattr(fitting, "Recorded", lambda function: function)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def climb(optimiser_of, params, gradients):
    """The parameters after steps with these gradients."""
    params = [nn.Parameter(p.clone()) for p in params]
    optimiser = optimiser_of(params)
    for step in gradients:
        for p, grad in zip(params, step, strict=True):
            p.grad = grad.clone()
        optimiser.step()
        getattr(optimiser, "between_steps", lambda: None)()
    return [p.detach() for p in params]


# No axis is longer by two than the others together: after one step two eigenvalues would be zero,
# and their eigenvectors any.
SHAPES = [(6, 5), (4, 3, 3, 3), (6, 5), (7,), (4, 3, 3, 3), (3, 4, 1, 1)]


def test_it_is_soap_while_rotations_stay():
    """One rotation, found exactly after the first step: then both optimisers do the same with
    matrices and kernels.
    """
    params = [random(*shape, seed=k) for k, shape in enumerate(SHAPES) if len(shape) > 1]
    gradients = [
        [random(*p.shape, seed=10 * step + k) for k, p in enumerate(params)] for step in range(6)
    ]

    def flat(optimiser):
        # SOAP sees a kernel's two axes apart; as one axis they are what BatchedSOAP sees.
        as_matrices = [
            p.flatten(2) if p.dim() > 2 and p.shape[-1] > 1 else p.flatten(1) for p in params
        ]
        flat_gradients = [
            [g.reshape(p.shape) for g, p in zip(step, as_matrices, strict=True)]
            for step in gradients
        ]
        return climb(optimiser, as_matrices, flat_gradients)

    wanted = flat(lambda p: SOAP(p, lr=0.1, every=100))
    found = climb(lambda p: BatchedSOAP(p, lr=0.1, every=100), params, gradients)
    for a, b, p in zip(wanted, found, params, strict=True):
        assert not torch.equal(b, p)
        assert torch.allclose(a.reshape(p.shape), b, atol=1e-4)


def test_parameters_of_one_shape_do_not_mix():
    params = [random(*shape, seed=k) for k, shape in enumerate(SHAPES)]
    gradients = [
        [random(*p.shape, seed=10 * step + k) for k, p in enumerate(params)] for step in range(25)
    ]
    together = climb(lambda p: BatchedSOAP(p, lr=0.1), params, gradients)
    for k, p in enumerate(params):
        (alone,) = climb(lambda q: BatchedSOAP(q, lr=0.1), [p], [[step[k]] for step in gradients])
        assert torch.allclose(alone, together[k], atol=1e-4) and not torch.equal(alone, p)


def test_vectors_get_adam():
    params, gradients = [random(7)], [[random(7, seed=step)] for step in range(5)]
    adam = climb(lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.9, 0.99)), params, gradients[1:])
    assert torch.allclose(
        climb(lambda p: BatchedSOAP(p, lr=0.1), params, gradients)[0], adam[0], atol=1e-6
    )


def test_a_parameter_without_a_gradient_stays():
    used, unused = (nn.Parameter(random(3, 4, seed=k)) for k in range(2))
    before, optimiser = unused.detach().clone(), BatchedSOAP([used, unused], lr=0.1)
    for _ in range(4):
        optimiser.zero_grad()
        used.square().sum().backward()
        optimiser.step()
        optimiser.between_steps()
    assert torch.equal(unused, before) and used.square().sum() < random(3, 4).square().sum()


def test_long_axes_are_left_alone():
    p = nn.Parameter(random(3, 600))
    before, optimiser = p.detach().square().sum(), BatchedSOAP([p], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        p.square().sum().backward()
        optimiser.step()
        optimiser.between_steps()
    assert [moment.shape[-1] for moment in optimiser.state[p]["moments"]] == [3, 0, 0]
    assert p.square().sum() < before


def test_a_kernel_is_seen_in_place_whatever_its_layout():
    for layout in (torch.contiguous_format, torch.channels_last):
        p = random(4, 3, 3, 3).contiguous(memory_format=layout)
        weight = _weight(p)
        assert weight.shape == (4, 9, 3) and weight.data_ptr() == p.data_ptr()
        assert torch.equal(weight[1, 5], p[1, :, 1, 2])


def test_orthogonal_iteration_finds_the_eigenvectors_and_stays_orthonormal():
    half = random(2, 12, 12, dtype=torch.float64)
    moments = half @ torch.diag(torch.logspace(0, -4, 12, dtype=torch.float64)) @ half.mT
    bases = torch.linalg.qr(random(2, 12, 12, seed=1, dtype=torch.float64))[0]
    for _ in range(400):
        bases = orthogonal_iteration(moments, bases)
        assert torch.allclose(
            bases.mT @ bases, torch.eye(12, dtype=torch.float64).expand(2, -1, -1), atol=1e-6
        )
    turned = bases.mT @ moments @ bases
    values = turned.diagonal(dim1=1, dim2=2)
    assert torch.allclose(values, torch.linalg.eigvalsh(moments).flip(-1), rtol=1e-3)
    assert (turned - torch.diag_embed(values)).abs().max() < 1e-3 * values.max()


def test_a_moment_without_rank_leaves_its_basis():
    basis = torch.eye(5, dtype=torch.float64)[None]
    for moment in (
        torch.zeros(1, 5, 5, dtype=torch.float64),
        torch.full((1, 5, 5), torch.nan, dtype=torch.float64),
    ):
        assert torch.equal(orthogonal_iteration(moment, basis), basis)


@pytest.mark.parametrize("way", ["plain", "replaying"])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(tmp_path, request, way):
    if way == "replaying":
        request.getfixturevalue(way)
    model = {
        "mean": "velocity",
        "optimiser": "batched_soap",
        "train_steps": 16,
        "learning_rate": 4e-3,
    }
    params = settings.quick(
        "mnist_unet", model | {"channels": 8, "levels": 2, "blocks": 1, "batch": 4}
    )
    images = load_images(params.data)

    def trained(until=None, checkpoint=None):
        model = ImageModel(images, **vars(params))
        draws, ascent = model.draws, model.fit_options()["ascent"]
        count = 0

        def some(generator):
            nonlocal count
            count += 1
            if count == until:
                raise KeyboardInterrupt
            return draws(generator)

        ascent = ascent._replace(recorded=(some, model.estimate))
        kept = checkpoint and Checkpoint(checkpoint, {}, 0.0)
        watch = Watch(unit=(model.pixels, "bits/pixel"))
        curve = fit(model, model.objective, model.groups(), 16, 0, ascent, watch, kept)
        return model, curve

    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(until=12, checkpoint=path)
    assert read_state(path, {"steps": 16, "seed": 0})["step"] == 11
    assert isinstance(
        read_state(path, {"steps": 16, "seed": 0})["optimiser"]["param_groups"][0]["lr"],
        torch.Tensor,
    ) == (way != "plain")
    resumed, whole = trained(checkpoint=path), trained()
    assert resumed[1] == whole[1]
    assert all(
        torch.equal(a, b)
        for a, b in zip(resumed[0].parameters(), whole[0].parameters(), strict=True)
    )


# ---------------------------------------------------------------- recorded steps


class Graph:
    """Stands for a CUDA graph: what is recorded in it is computed again at each replay, from and to
    the same tensors.
    """

    now = None

    def replay(self):
        for mine, new in zip(self.outputs, self.function(*self.inputs), strict=True):
            mine.copy_(new)


def test_a_recorded_function_is_replayed_on_each_call_s_own_tensors(monkeypatch):
    calls, total = [], torch.zeros(2)

    def function(x, y):
        calls.append(1)
        total.add_(x)
        return x + y, total.clone()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)

    class Recording:
        def __init__(self, graph, stream):
            self.graph = graph

        def __enter__(self):
            self.before = total.clone()

        def __exit__(self, *_):
            self.graph.inputs, self.graph.outputs = step.inputs, step.outputs = (
                step.inputs,
                (torch.zeros(2), torch.zeros(2)),
            )
            self.graph.function = function
            total.copy_(self.before)  # recording computes nothing

    monkeypatch.setattr(torch.cuda, "graph", Recording)
    step, given = (
        Recorded(function),
        [(random(2, seed=k), random(2, seed=k + 50)) for k in range(BEFORE + 4)],
    )
    answers = [step(*each) for each in given]
    for k, (x, y) in enumerate(given):
        assert torch.equal(answers[k][0], x + y), "an answer is not overwritten by the next"
        assert torch.allclose(answers[k][1], sum(x for x, _ in given[: k + 1]))
    assert step.graph is not None and step.calls == len(given)


@pytest.mark.parametrize(
    ("changes", "can"),
    [
        ({"optimiser": "batched_soap"}, True),
        ({"optimiser": "adam"}, True),
        ({"optimiser": "soap"}, False),
        ({"optimiser": "adam", "schedule": "learned"}, False),
    ],
)
def test_what_can_be_recorded(changes, can):
    model = ImageModel(**vars(settings.quick("cifar10", changes | {"train_steps": 1})))
    assert model.recordable == can and (model.fit_options()["ascent"].recorded is not None) == can


def test_gradients_longer_than_a_nat_per_number_of_an_image_are_shortened():
    model = ImageModel(**vars(settings.quick("cifar10", {"train_steps": 1})))
    assert model.fit_options()["ascent"].max_norm == 3 * 32 * 32


def test_two_networks_cannot_be_recorded_as_each_gets_rows_of_its_own():
    assert not ImageModel(**vars(settings.quick("mnist_dense", {"optimiser": "adam"}))).recordable


@pytest.mark.parametrize("name", ["mnist_conv", "cifar10", "mnist_unet", "dead_leaves_unet"])
def test_a_recorded_step_makes_nothing_of_python_s_numbers_and_asks_for_none(name, monkeypatch):
    """A GPU would have to wait for either, and refuses while it records; and no tensor of the CPU
    is mixed with its own.
    """
    params = settings.quick(name, {"train_steps": 1, "optimiser": "batched_soap"})
    model = EXPERIMENTS[name].model(training_data(params), **vars(params))
    drawn, kernel = model.draws(torch.Generator().manual_seed(0)), model.kernel()

    def refused(*_, **__):
        raise AssertionError("not while a GPU records")

    for where, what in [(torch, "tensor")] + [
        (torch.Tensor, what)
        for what in ("new_tensor", "item", "tolist", "cpu", "numpy", "__bool__", "__float__")
    ]:
        monkeypatch.setattr(where, what, refused)
    (-model.estimate(*drawn)).backward()
    # Tensors without values stand for those of a GPU, which mix with no other.
    for module in (image, unet):
        monkeypatch.setattr(module, "low_precision", lambda *_: contextlib.nullcontext())
    vars(kernel).update(
        {
            key: value.to("meta")
            for key, value in vars(kernel).items()
            if isinstance(value, torch.Tensor)
        }
    )
    model.to("meta").kernel = lambda: kernel
    K = model.estimate(*(x.to("meta") for x in drawn))
    assert K.is_meta
    K.backward()


def test_the_objective_is_the_estimate_of_its_draws():
    params = settings.quick("mnist_conv", {"train_steps": 1})
    one, other = (ImageModel(load_images(params.data), **vars(params)) for _ in range(2))
    K = one.objective(torch.Generator().manual_seed(3))
    assert torch.equal(K, other.estimate(*other.draws(torch.Generator().manual_seed(3))))
    assert torch.equal(one.square, other.square) and not torch.equal(
        one.square, ImageModel(**vars(params)).square
    )


def test_a_fixed_schedule_s_kernel_is_made_once_and_anew_when_the_schedule_is_another():
    fixed = ImageModel(**vars(settings.quick("mnist_conv", {"n_steps": 20})))
    other = ImageModel(**vars(settings.quick("mnist_conv", {"n_steps": 20, "beta_1": 1e-2})))
    kernel = fixed.kernel()
    assert fixed.kernel() is kernel
    fixed.load_state_dict(other.state_dict())
    assert fixed.kernel() is not kernel and torch.equal(fixed.kernel().beta, other.kernel().beta)
    fixed.load_state_dict(
        ImageModel(**vars(settings.quick("mnist_conv", {"n_steps": 20}))).state_dict(), assign=True
    )
    assert torch.equal(fixed.kernel().beta, kernel.beta)


def test_a_learned_schedule_s_kernel_follows_it():
    model = ImageModel(**vars(settings.quick("mnist_conv", {"n_steps": 20, "schedule": "learned"})))
    with torch.no_grad():
        before = model.kernel().beta.clone()
        model.schedule.logit.add_(1)
        assert not torch.equal(model.kernel().beta, before)
    assert model.kernel().beta.requires_grad


# ---------------------------------------------------------------- values that are read late


@pytest.mark.parametrize("saved", [True, False])
def test_a_loss_that_is_read_late_names_its_step_and_keeps_the_last_good_checkpoint(
    tmp_path, replaying, saved
):
    layer, calls = nn.Linear(1, 1, bias=False), []

    def objective(_):
        calls.append(1)
        return -layer.weight.square().sum() * (float("nan") if len(calls) == 27 else 1)

    path, steps = tmp_path / "run.pt", [{"params": list(layer.parameters()), "lr": 0.01}]
    ascent = Ascent(torch.optim.SGD, recorded=(lambda generator: (generator,), objective))
    kept = Checkpoint(path, {}, 0.0 if saved else 1e9)
    with pytest.raises(
        TrainingError, match="at step 27" + ("; run.pt holds the last good state" if saved else "$")
    ):
        fit(layer, objective, steps, 60, 0, ascent, Watch(log_every=50), kept)
    assert len(calls) == (27 if saved else 40), (
        "it is read before a checkpoint is saved, or when it is due"
    )
    if saved:
        state = read_state(path, {"steps": 60, "seed": 0})
        assert state["step"] == 26 and torch.isfinite(state["model"]["weight"]).all()


def test_values_that_are_read_late_give_the_same_curve(request):
    curves = []
    for way in (None, "replaying"):
        if way:
            request.getfixturevalue(way)
        changes = {
            "conv_channels": 4,
            "pixel_units": 8,
            "batch": 4,
            "optimiser": "batched_soap",
            "train_steps": 1,
        }
        params = settings.quick("mnist_conv", changes)
        model = ImageModel(load_images(params.data), **vars(params))
        work = model, model.objective, model.groups(), 25, 0, model.fit_options()["ascent"]
        watch = Watch(log_every=7, unit=(model.pixels, "bits/pixel"))
        curves.append([row["K"] for row in fit(*work, watch)])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4) and len(curves[0]) == 4
