"""Trained weights on disk: written atomically with their settings, read with every cheap check."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
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

SPARE = 2**16  # values that a model may have beside those in its file
NO_SIZES = {"seed", "train_steps", "start_steps"}  # whole numbers that may be larger
SMALLEST_SIGMA = 0.28  # of noisy pixels: the noise alone has √(1/12)
WRONG = "does not fit the network of its own settings:"


def digest(tensors: Mapping[str, Tensor], about: dict) -> str:
    """SHA-256 over ``about`` and the sorted names, dtypes, shapes and bytes of ``tensors``."""
    sums = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        sums.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sums.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sums.hexdigest()


def weights_bytes(model: Model, experiment: str) -> bytes:
    """The model's weights, settings and their digest, as the bytes of a safetensors file."""
    tensors = {name: value.contiguous() for name, value in model.stored().items()}
    about = {"experiment": experiment, "params": vars(model.params)}
    about["sha256"] = digest(tensors, about)
    # One entry, as safetensors writes several in no fixed order.
    return save(tensors, {"nonequilibrium": json.dumps(about, sort_keys=True)})


def save_weights(model: Model, experiment: str, path: Path) -> None:
    """Write the model's weights, settings and their digest to ``path`` (safetensors), atomically."""
    raw = weights_bytes(model, experiment)
    save_atomically(path, lambda temporary: temporary.write_bytes(raw))


def load_weights(
    path: Path | str, experiment: str | None = None, law: Callable = SwissRoll
) -> Model:
    """The trained model at ``path``, of the family that its settings name.

    experiment: of which it must be, if that is known. law: of points, made from its noise. Raises
    WeightsError, with one sentence, unless the file is whole, agrees with its digest and with the
    card beside it, where there are such, and fits the network of its own settings.
    """
    path = Path(path)
    if not path.is_file():
        train = f"`nonequilibrium train {experiment or path.stem}`"
        raise WeightsError(f"there are no weights at {path}; train them with {train}")
    try:
        carded = check_card(path)
        with safe_open(path, "pt") as file:
            about = _about(file.metadata(), experiment)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        written = about.pop("sha256", None)
        if written not in (None, digest(tensors, about)):
            raise WeightsError("is damaged: it is not what was written (SHA-256)")
        if written is None and not carded:
            print(f"{path} has no digest and no card: damage may go unnoticed", file=sys.stderr)
        model = _empty_model(about["params"], tensors, law)
        _check(model, tensors)
        model.load_state_dict(tensors)
        with torch.no_grad():
            model.kernel()  # looks at every β
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {one_line(error)}") from None
    except Exception as error:  # safetensors and torch raise many kinds
        whole = "is not a whole safetensors file of weights"
        raise WeightsError(f"{path} {whole}: {one_line(error)}") from None
    return model.eval()


def built(settings: Mapping, law: Callable = SwissRoll) -> Model:
    """An untrained model of these settings, of the family whose own setting is among them."""
    if "width" in settings:
        return PointsModel(law=law, **settings)
    own = {"knots": HeartbeatModel, "smallest": LeavesModel, "patch": TextureModel}
    return next((own[name] for name in own if name in settings), ImageModel)(**settings)


def check_card(path: Path) -> bool:
    """Whether a card lies beside the weights at ``path``. Raises WeightsError if their SHA-256 is
    not the card's.
    """
    card = path.with_suffix(".json")
    if not card.is_file():
        return False
    try:
        promised = json.loads(card.read_bytes())["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(f"has a damaged card, {card.name}; restore both files") from None
    if sha256(path) != promised:
        raise WeightsError(f"is not the file of its card {card.name} (SHA-256); restore both files")
    return True


def _about(metadata: dict | None, experiment: str | None) -> dict:
    """Experiment, settings and digest in a file's metadata."""
    try:
        about = json.loads((metadata or {})["nonequilibrium"])
    except (ValueError, KeyError, RecursionError):
        about = None
    if not isinstance(about, dict) or not isinstance(about.get("params"), dict):
        raise WeightsError("has no readable experiment and settings in its metadata")
    if experiment not in (None, about.get("experiment")):
        raise WeightsError(f"holds weights of {about.get('experiment')!r}, not of {experiment!r}")
    return about


def _empty_model(settings: dict, tensors: dict[str, Tensor], law: Callable) -> Model:
    """A model of ``settings``; raises WeightsError before it allocates what the file lacks."""
    left, most = Counter(v.shape for v in tensors.values()), SPARE
    most += sum(v.numel() for v in tensors.values())
    for name, value in settings.items():
        if isinstance(value, int) and value > most and name not in NO_SIZES:
            raise WeightsError(f"{WRONG} {name} is {value}, more than the file holds")

    def registered(module, name: str, parameter: Tensor | None) -> None:
        """Called with every new parameter before its memory is touched."""
        if parameter is not None:
            left[parameter.shape] -= name != "shared"  # a part that is dropped after training
            if left[parameter.shape] < 0 or parameter.numel() > most:
                lacking = tuple(parameter.shape)
                raise WeightsError(f"{WRONG} it lacks a tensor of shape {lacking}")

    hook = register_module_parameter_registration_hook(registered)
    try:
        model = built(settings, law)
    except ParameterError as error:
        raise WeightsError(f"was made with other settings: {error}") from None
    except (ValueError, RuntimeError, MemoryError) as error:
        if isinstance(error, WeightsError):
            raise
        reason = one_line(error)
        raise WeightsError(f"has settings with which no model can be built: {reason}") from None
    finally:
        hook.remove()
    model.finish()
    return model


def _check(model: Model, tensors: dict[str, Tensor]) -> None:
    """Raises WeightsError unless ``tensors`` are those of ``model``, with possible values."""
    expected, given = model.stored(), model.state_dict()
    low = getattr(model.params, "precision", None) == "bfloat16"
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise WeightsError(f"{WRONG} {name!r} is {'lacking' if name in expected else 'not of it'}")
    for name, value in tensors.items():
        like, dtypes = expected[name], {expected[name].dtype}
        if low and is_dense(name):  # once stored as the machine that trained it computed
            dtypes |= {torch.float32, torch.bfloat16}
        if value.shape != like.shape or value.dtype not in dtypes:
            kinds = (
                f"{value.dtype} of {tuple(value.shape)}, not {like.dtype} of {tuple(like.shape)}"
            )
            raise WeightsError(f"{WRONG} {name!r} is {kinds}")
        if not torch.isfinite(value).all():
            raise WeightsError(f"is damaged: {name!r} holds values that are not finite")
        fixed = name in ("schedule.beta", "schedule.beta_1")  # as the settings have it
        if fixed and not torch.allclose(value, given[name], rtol=1e-6, atol=0.0):
            raise WeightsError(f"is damaged: {name!r} is not the schedule of its own settings")
    if isinstance(model, ImageModel):
        mean, sigma = tensors["constants"].tolist()
        if not (0 <= mean <= 256 and SMALLEST_SIGMA <= sigma <= 256):
            raise WeightsError(
                f"is damaged: no images have pixels of mean {mean:g} and σ {sigma:g}"
            )
        if not (tensors["square"] >= 0).all():
            raise WeightsError("is damaged: 'square' holds mean squares below zero")
