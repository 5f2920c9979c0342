"""Trained weights on disk: written atomically with their settings, read with every cheap check."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from nonequilibrium.data.toys import SwissRoll
from nonequilibrium.errors import WeightsError, one_line
from nonequilibrium.files import sha256
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.model import Model
from nonequilibrium.model.textures import LeavesModel, TextureModel
from nonequilibrium.model.toys import HeartbeatModel, PointsModel
from nonequilibrium.network.precision import is_dense

SPARE = 2**16  # values that a model may have beside those in its file
NO_SIZES = {"seed", "batch", "batch_t", "train_steps", "start_steps"}  # these may be larger
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
    tensors = {name: value.contiguous().cpu() for name, value in model.stored().items()}
    about = {"experiment": experiment, "params": vars(model.params)}
    about["sha256"] = digest(tensors, about)
    # One entry, as safetensors writes several in no fixed order.
    return save(tensors, {"nonequilibrium": json.dumps(about, sort_keys=True)})


def load_weights(
    path: Path | str, experiment: str | None = None, law: Callable = SwissRoll
) -> Model:
    """The trained model at ``path``, if known of an ``experiment``; ``law`` is that of points.

    Raises WeightsError unless the file is whole and fits its own settings, digest and card.
    """
    path = Path(path)
    if not path.is_file():
        train = f"`nonequilibrium train {experiment or path.stem}`"
        raise WeightsError(f"there are no weights at {path}; train them with {train}")
    try:
        carded = check_card(path)
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["nonequilibrium"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        written, of = about.pop("sha256", None), about["experiment"]
        if experiment not in (None, of):
            raise WeightsError(f"holds weights of {of!r}, not of {experiment!r}")
        if written not in (None, digest(tensors, about)):
            raise WeightsError("is damaged: it is not what was written (SHA-256)")
        most = SPARE + sum(value.numel() for value in tensors.values())
        for name, size in about["params"].items():
            if name not in NO_SIZES and isinstance(size, int) and size > most:
                raise WeightsError(f"{WRONG} {name} is {size}, more than the file holds")
        model = built(about["params"], law)
        model.finish()
        _check(tensors, model.stored())
        model.load_state_dict(tensors)
        with torch.no_grad():
            model.kernel()  # looks at every β
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from None
    except Exception as error:  # safetensors and torch raise many kinds
        raise WeightsError(f"{path} cannot be read as weights: {one_line(error)}") from None
    if written is None and not carded:
        print(f"{path} has no digest and no card; damage may go unnoticed", file=sys.stderr)
    return model.eval()


def built(settings: Mapping, law: Callable = SwissRoll) -> Model:
    """An untrained model of these settings, of the family whose own setting is among them."""
    if "width" in settings:
        return PointsModel(law=law, **settings)
    own = {"knots": HeartbeatModel, "smallest": LeavesModel, "patch": TextureModel}
    return next((own[name] for name in own if name in settings), ImageModel)(**settings)


def check_card(path: Path) -> bool:
    """Whether a card lies beside ``path``. Raises WeightsError unless it has the file's SHA-256."""
    card = path.with_suffix(".json")
    if card.is_file():
        try:
            promised = json.loads(card.read_bytes())["sha256"]
        except (ValueError, TypeError, KeyError, RecursionError):
            promised = None
        if sha256(path) != promised:
            raise WeightsError(f"is not what its card {card.name} says (SHA-256); restore both")
    return card.is_file()


def _check(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises WeightsError unless ``tensors`` are like those expected, with possible values."""
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise WeightsError(f"{WRONG} {name!r} is {'missing' if name in expected else 'not of it'}")
    for name, value in tensors.items():
        like, once = expected[name], torch.bfloat16  # as dense layers were stored once
        fits = value.dtype == like.dtype or (is_dense(name) and value.dtype == once)
        if value.shape != like.shape or not fits:
            raise WeightsError(f"{WRONG} {name!r} is {value.dtype} of shape {tuple(value.shape)}")
        if not torch.isfinite(value).all():
            raise WeightsError(f"is damaged: {name!r} holds values that are not finite")
        fixed = name in ("schedule.beta", "schedule.beta_1")  # as the settings have it
        if fixed and not torch.allclose(value, like, rtol=1e-6, atol=0.0):
            raise WeightsError(f"is damaged: {name!r} is not the schedule of its own settings")
