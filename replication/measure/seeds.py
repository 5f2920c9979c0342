"""Five seeds of each toy, so that no number rests on a lucky one: train, measure K and K*, write
the spread.

    nonequilibrium seeds

trains with two processes. A finished seed is kept in .checkpoints/ until all are, so an interrupted
run goes on where it was, unless code, parameters or libraries have changed since.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import statistics
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch

from nonequilibrium.bound.bound import bits, full_bound
from nonequilibrium.bound.optimum import HeartbeatOptimum, heartbeat_optimal_kl
from nonequilibrium.diffusion.chain import Kernel
from nonequilibrium.errors import ParameterError, Refusal
from nonequilibrium.model.model import Model
from nonequilibrium.model.toys import HeartbeatModel, PointsModel
from nonequilibrium.training.checkpoint import read_state, write_result
from replication.files import ROOT, check_writable, write_json
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load
from replication.training.train import identity, train


def one_seed(experiment: str, seed: int) -> dict:
    """Train one seed and measure it on held-out data: {"seed", "K", "K_se"} in bits."""
    torch.set_num_threads(1)
    params, evaluation = load(experiment, {"seed": seed}), load(f"evaluate_{experiment}")
    kept = unfinished() / f"{experiment}-{seed}.json"
    whose = identity(experiment, params, None, __file__)
    whose["evaluation"] = dataclasses.asdict(evaluation)
    result = read_state(kept, whose)
    if result is None:

        def save(model: Model, _) -> None:
            nonlocal result
            result = {"seed": seed, **measured(experiment, model, evaluation)}
            write_result(kept, whose, result)

        train(experiment, params, unfinished(), save=save)
    assert result is not None, "a training that ends without an error saves"
    return result


def measured(experiment: str, model: Model, evaluation) -> dict:
    """K of a trained toy on held-out data, and for the swiss roll K*, in bits."""
    assert isinstance(model, PointsModel | HeartbeatModel), (
        "only toys are trained from several seeds"
    )
    with torch.no_grad():
        kernel: Kernel = model.kernel()
    heldout = model.law.sample(evaluation.n_heldout, torch.Generator().manual_seed(evaluation.seed))
    random = torch.Generator().manual_seed(evaluation.seed + 1)
    control = None
    if isinstance(model, HeartbeatModel):
        optimal_kl = heartbeat_optimal_kl(model.kernel(), model.law)
        control = (HeartbeatOptimum(model.kernel(), model.law), optimal_kl)
    bound = full_bound(kernel, model.reverse(kernel), heldout, random, control=control)
    result = {"K": bits(bound.K), "K_se": bits(bound.se)}
    if build := EXPERIMENTS[experiment].optimum:
        some = heldout[: evaluation.n_optimum]
        star = full_bound(kernel, build(kernel, model.law), some, random)
        result["K_star"] = bits(star.K)
    return result


def unfinished() -> Path:
    """The folder of checkpoints and finished seeds of an unfinished run."""
    return ROOT / ".checkpoints" / "seeds"


def arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium seeds`` takes no words: all is in params.yaml."""
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    """Train and measure every seed and write reports/metrics/seeds.json."""
    if options.words:
        raise ParameterError(
            f"seeds takes no names, but was given {options.words[0]!r}; it always trains every toy"
        )
    target = ROOT / "reports" / "metrics" / "seeds.json"
    jobs = [
        (experiment, seed)
        for experiment in ("heartbeat", "swiss_roll")
        for seed in range(load("seeds").count)
    ]
    check_writable(target)
    try:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            results = list(pool.map(one_seed, *zip(*jobs, strict=True)))
    except BrokenProcessPool:
        raise Refusal(
            "a process that trained was killed, perhaps for lack of memory; run it again to go on"
        ) from None
    summary = {}
    for experiment in ("swiss_roll", "heartbeat"):
        runs = [
            result for (name, _), result in zip(jobs, results, strict=True) if name == experiment
        ]
        values = [run["K"] for run in runs]
        spread = {
            "mean": statistics.mean(values),
            "std": statistics.stdev(values),
            "min": min(values),
            "max": max(values),
        }
        summary[experiment] = {"unit": "bits", "K": spread, "runs": runs}
    write_json(target, summary)
    shutil.rmtree(unfinished(), ignore_errors=True)
