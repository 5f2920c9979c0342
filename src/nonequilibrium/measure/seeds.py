"""Five seeds of each toy, so that no number rests on a lucky one: train, measure K and K*, write the spread.

    nonequilibrium seeds

trains with two processes. A finished seed is kept in .checkpoints/, so an
interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from nonequilibrium.bound.bound import bits, full_bound
from nonequilibrium.bound.optimum import HeartbeatOptimum, SwissRollOptimum, heartbeat_optimal_kl
from nonequilibrium.experiment.train import train
from nonequilibrium.files import ROOT, fingerprint, write_json
from nonequilibrium.params import load


def one_seed(experiment: str, seed: int) -> dict:
    """Train one seed and measure it on held-out data: {"seed", "K", "K_se"} in bits."""
    torch.set_num_threads(1)
    params, evaluation = load(experiment, {"seed": seed}), load(f"evaluate_{experiment}")
    key = fingerprint({"seed of": experiment, **dataclasses.asdict(params), **dataclasses.asdict(evaluation)})
    kept = ROOT / ".checkpoints" / f"seed-{experiment}-{seed}-{key}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    model, _ = train(experiment, params, ROOT / ".checkpoints")
    with torch.no_grad():
        kernel = model.kernel()
    heldout = model.law.sample(evaluation.n_heldout, torch.Generator().manual_seed(evaluation.seed))
    draws = torch.Generator().manual_seed(evaluation.seed + 1)
    control = None
    if experiment == "heartbeat":
        control = (HeartbeatOptimum(kernel, model.law), heartbeat_optimal_kl(kernel))
    bound = full_bound(kernel, model.reverse(kernel), heldout, draws, control=control)
    result = {"seed": seed, "K": bits(bound.K), "K_se": bits(bound.se)}
    if experiment == "swiss_roll":
        some = heldout[: evaluation.n_optimum]
        star = full_bound(kernel, SwissRollOptimum(kernel, model.law), some, draws)
        result["K_star"] = bits(star.K)
    write_json(kept, result)
    return result


def arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium seeds`` takes no words: all is in params.yaml."""


def run(_: argparse.Namespace) -> None:
    """Train and measure every seed and write reports/metrics/seeds.json."""
    jobs = [(experiment, seed) for experiment in ("heartbeat", "swiss_roll") for seed in range(load("seeds").count)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(one_seed, *zip(*jobs, strict=True)))
    summary = {}
    for experiment in ("swiss_roll", "heartbeat"):
        runs = [result for (name, _), result in zip(jobs, results, strict=True) if name == experiment]
        values = [run["K"] for run in runs]
        spread = {
            "mean": statistics.mean(values),
            "std": statistics.stdev(values),
            "min": min(values),
            "max": max(values),
        }
        summary[experiment] = {"unit": "bits", "K": spread, "runs": runs}
    write_json(ROOT / "reports" / "metrics" / "seeds.json", summary)
