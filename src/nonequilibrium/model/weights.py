"""Trained weights on disk: written atomically with the parameters they were made by, read with
every check that is cheap.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from nonequilibrium.data.toys import SwissRoll
from nonequilibrium.errors import ParameterError, WeightsError, one_line
from nonequilibrium.files import save_atomically, sha256
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.leaves import LeavesModel
from nonequilibrium.model.model import Model
from nonequilibrium.model.textures import TextureModel
from nonequilibrium.model.toys import HeartbeatModel, PointsModel
from nonequilibrium.network.precision import is_dense

# What safetensors calls the dtypes that a model has.
DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
}
LOW_OR_FULL = {"BF16", "F32"}
SMALLEST_SIGMA = 0.28  # of noisy pixels: the noise alone has √(1/12)


# ---------------------------------------------------------------- writing


def weights_bytes(model: Model, experiment: str) -> bytes:
    """The model's weights with its experiment and parameters, as the bytes of a safetensors file."""
    # One entry: safetensors writes several in no fixed order, and equal weights must give equal
    # bytes.
    about = {"experiment": experiment, "params": vars(model.params)}
    metadata = {"nonequilibrium": json.dumps(about, sort_keys=True)}
    return save({name: value.contiguous() for name, value in model.stored().items()}, metadata)


def save_weights(model: Model, experiment: str, path: Path) -> None:
    """Write the model's weights with its experiment and parameters to ``path`` (safetensors),
    atomically.
    """
    raw = weights_bytes(model, experiment)
    save_atomically(path, lambda temporary: temporary.write_bytes(raw))


# ---------------------------------------------------------------- reading


def load_weights(
    path: Path | str, experiment: str | None = None, law: Callable = SwissRoll
) -> Model:
    """The trained model at ``path``, of the kind that the file itself says.

    experiment: what it must be of, if that is known. law: of points, made from its noise. Raises
    WeightsError, with one sentence, unless the file is whole, is what the card beside it says
    (where there is a card), fits the network of its own parameters, and holds only finite values
    and possible constants.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"there are no weights at {path}; train them with `nonequilibrium train {experiment or path.stem}`"
        )
    try:
        check_card(path)
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}
            model = _empty_model(experiment, file.metadata(), shapes, law)
            _compare(
                model.stored(),
                shapes,
                dtypes,
                getattr(model.params, "precision", None) == "bfloat16",
            )
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        _check_values(model, tensors)
        model.load_state_dict(tensors)
        with torch.no_grad():
            model.kernel()  # looks at every β
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {one_line(error)}") from None
    except Exception as error:  # safetensors and torch raise many kinds
        raise WeightsError(
            f"{path} is not a whole safetensors file of weights: {one_line(error)}"
        ) from None
    return model.eval()


def built(settings: dict, law: Callable = SwissRoll) -> Model:
    """An untrained model of these settings, of the family whose own setting is among them."""
    if "knots" in settings:
        return HeartbeatModel(**settings)
    if "width" in settings:
        return PointsModel(law=law, **settings)
    family = (
        LeavesModel
        if "smallest" in settings
        else TextureModel
        if "patch" in settings
        else ImageModel
    )
    return family(**settings)


def check_card(path: Path) -> None:
    """Raises WeightsError if there is a card beside the weights at ``path`` and their SHA-256 is
    not the card's.
    """
    card = path.with_suffix(".json")
    if not card.is_file():
        return
    try:
        promised = json.loads(card.read_bytes())["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(
            f"has a damaged card, {card.name}, without a SHA-256; restore both files"
        ) from None
    if sha256(path) != promised:
        raise WeightsError(
            f"is not the file that its card {card.name} describes (SHA-256); restore both files"
        )


def _empty_model(
    experiment: str | None, metadata: dict | None, shapes: dict[str, tuple], law: Callable
) -> Model:
    """A model of the parameters in ``metadata``; raises WeightsError before it allocates what the
    file does not hold.
    """
    try:
        about = json.loads((metadata or {})["nonequilibrium"])
    except (ValueError, KeyError, RecursionError):
        about = None
    if not isinstance(about, dict) or not isinstance(about.get("params"), dict):
        raise WeightsError("has no readable experiment and parameters in its metadata")
    if experiment not in (None, about.get("experiment")):
        raise WeightsError(f"holds weights of {about.get('experiment')!r}, not of {experiment!r}")
    left = Counter(shapes.values())

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        """Called with each new parameter before its memory is touched."""
        if (
            parameter is None or name == "shared"
        ):  # training's own part of a readout, which is not stored
            return
        shape = tuple(parameter.shape)
        left[shape] -= 1
        if left[shape] < 0:
            raise WeightsError(
                f"does not fit the network of its own parameters: it lacks a tensor of shape {shape}"
            )

    hook = register_module_parameter_registration_hook(registered)
    try:
        model = built(about["params"], law)
    except ParameterError as error:
        raise WeightsError(f"was made with other parameters: {error}") from None
    except (ValueError, RuntimeError, MemoryError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"has parameters with which no model can be built: {one_line(error)}"
        ) from None
    finally:
        hook.remove()
    model.finish()
    return model


def _compare(
    expected: dict[str, Tensor], shapes: dict[str, tuple], dtypes: dict[str, str], low: bool
) -> None:
    """Raises WeightsError unless names, shapes and dtypes are those of ``expected``. low: the dense
    layers are of low precision.
    """
    wrong = "does not fit the network of its own parameters:"
    for name in sorted(expected.keys() ^ shapes.keys()):
        raise WeightsError(
            f"{wrong} {name!r} is {'missing' if name in expected else 'not part of it'}"
        )
    for name, tensor in expected.items():
        if shapes[name] != tuple(tensor.shape):
            raise WeightsError(
                f"{wrong} {name!r} has shape {shapes[name]}, not {tuple(tensor.shape)}"
            )
        # A dense layer of low precision is stored in what the machine that trained it computes in.
        allowed = {DTYPES.get(tensor.dtype)} | (LOW_OR_FULL if low and is_dense(name) else set())
        if dtypes[name] not in allowed:
            raise WeightsError(
                f"{wrong} {name!r} is {dtypes[name]}, not {DTYPES.get(tensor.dtype)}"
            )


def _check_values(model: Model, tensors: dict[str, Tensor]) -> None:
    """Raises WeightsError for values that no training leaves. model: with the constants that its
    parameters give.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"is damaged: {name!r} holds values that are not finite")
    given = model.state_dict()
    for name in (
        "schedule.beta",
        "schedule.beta_1",
    ):  # what training leaves as the parameters have it
        if name in tensors and not torch.allclose(tensors[name], given[name], rtol=1e-6, atol=0.0):
            raise WeightsError(f"is damaged: {name!r} is not the schedule of its own parameters")
    if isinstance(model, ImageModel):
        mean, sigma = tensors["constants"].tolist()
        if not (0 <= mean <= 256 and SMALLEST_SIGMA <= sigma <= 256):
            raise WeightsError(
                f"is damaged: its pixels have mean {mean:g} and σ {sigma:g}, which no images have"
            )
        if not (tensors["square"] >= 0).all():
            raise WeightsError("is damaged: 'square' holds mean squares below zero")
