"""The contract of reports/metrics on a case small enough for pencil and paper."""

import math
import re
from types import SimpleNamespace

import nbformat
import pytest
import torch
import yaml

from nonequilibrium.bound.bound import Bound, block_se
from nonequilibrium.data.images import Scale
from nonequilibrium.model.images import ImageModel
from replication.files import ROOT
from replication.measure import metrics
from replication.measure.measured import Measured
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import quick


def three_channels():
    """K of two images of 2×2 pixels and 3 channels: 8 and 16 bits an image, so 2 and 4 bits a
    pixel.
    """
    rest = torch.tensor([8.0, 16.0], dtype=torch.float64) * math.log(2)
    noise = torch.tensor([[0.4, -0.4], [-0.4, 0.4]], dtype=torch.float64) * math.log(2)
    network = torch.nn.Linear(2, 1)
    network.shape = (3, 2, 2)
    model = SimpleNamespace(
        pixels=4, network=network, scale=Scale(100.0, 64.0), params=SimpleNamespace(n_steps=7)
    )
    return model, Bound(torch.zeros(2, 8, dtype=torch.float64), rest, rest + noise)


def test_a_three_channel_case_by_hand():
    model, bound = three_channels()
    m = metrics.image_metrics("cifar10", model, bound, L_null=-4 * math.log(2), seed=3, extra=1)
    assert m["K"] == pytest.approx(3) and m["unit"] == "bits per pixel"
    assert m["L_null"] == pytest.approx(-1) and m["K_minus_L_null"] == pytest.approx(4)
    assert m["K_se"] == pytest.approx(1), "two values, 2 and 4: s = √2, s/√2 = 1"
    assert m["K_se_blocks"] == pytest.approx(1), "two blocks of one"
    assert m["K_mc_se"] == pytest.approx(math.sqrt(0.02 / 4)), (
        "two replicates ±0.1: variance 0.02, over r n = 4"
    )
    assert m["bits_per_dim"] == pytest.approx(math.log2(64) - 3 / 3) and m[
        "bits_per_dim_se"
    ] == pytest.approx(1 / 3)
    assert (m["n_heldout"], m["n_steps"], m["parameters"], m["seed"], m["extra"]) == (2, 7, 3, 3, 1)


def test_a_pixel_is_all_its_channels():
    model = ImageModel(**vars(quick("cifar10")))
    assert model.network.shape == (3, 32, 32) and model.pixels == 32 * 32


def test_blocks_see_the_order_that_independent_errors_do_not():
    generator = torch.Generator().manual_seed(0)
    n, errors = 5000, []
    for _ in range(100):
        # A file in which runs of 100 examples share an effect as large as the examples' own spread.
        run = torch.randn(n // 100, generator=generator).repeat_interleave(100)
        errors.append((run + torch.randn(n, generator=generator)).double())
    means = torch.stack([e.mean() for e in errors])
    stated = torch.tensor([block_se(e) for e in errors])
    plain = torch.tensor([float(e.std()) / n**0.5 for e in errors])
    assert 0.8 < means.std() / stated.mean() < 1.25 and means.std() > 4 * plain.mean()
    shuffled = errors[0][torch.randperm(n, generator=generator)]
    assert block_se(shuffled) == pytest.approx(float(shuffled.std()) / n**0.5, rel=0.35)
    assert block_se(torch.tensor([1.0, 3.0])) == pytest.approx(1.0)


def test_a_number_that_does_not_exist_is_null(tmp_path):
    numbers = {"p": math.nan, "rows": [{"K": 1.0, "PSNR": -math.inf}], "n": 3, "none": None}
    Measured(numbers).save(tmp_path, "toy")
    expected = {"p": None, "rows": [{"K": 1.0, "PSNR": None}], "n": 3, "none": None}
    assert Measured.load(tmp_path, "toy").numbers == expected


def test_every_command_that_is_printed_names_a_stage():
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stages = {
        f"{name}@{item}" for name, stage in declared.items() for item in stage.get("foreach", [])
    }
    stages |= {name for name, stage in declared.items() if "foreach" not in stage}
    texts = [
        cell.source
        for path in (ROOT / "notebooks").rglob("*.ipynb")
        for cell in nbformat.read(path, 4).cells
    ]
    for pattern in ("src/**/*.py", "replication/**/*.py"):
        texts += [path.read_text(encoding="utf-8") for path in ROOT.glob(pattern)]
    texts.append((ROOT / "README.md").read_text(encoding="utf-8"))
    named = set()
    for command in (
        found
        for text in texts
        for found in re.findall(r"dvc repro((?: --[a-z-]+)*(?: [a-z_]+[a-z0-9_@{}]*)?)", text)
    ):
        stage = (
            command.split()[-1]
            if command.split() and not command.split()[-1].startswith("--")
            else None
        )
        # A plain word after "dvc repro" in a sentence is no stage; names are followed by a
        # quotation mark or a code's end.
        if stage and ("@" in stage or stage in stages):
            first, at, item = stage.partition("@")
            any_of = at and not re.fullmatch(
                r"\w+", item
            )  # a name that is filled in, or none: any experiment
            named |= {f"{first}@{name}" for name in EXPERIMENTS} if any_of else {stage}
    assert named <= stages, named - stages
    assert "measure@heartbeat" in named
