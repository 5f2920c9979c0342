"""Tables of what the theory notebook measured, and of which lines are which equation; ``tables``
has them with the others.
"""

from __future__ import annotations

from pandas import DataFrame

from replication.pages.equations import EQUATIONS
from replication.pages.findings import Findings, number, read_json, with_error


def equations(_: Findings) -> DataFrame:
    """Which function is which equation, and which test checks it (``equations``)."""
    return DataFrame(
        {
            "equation": row.number,
            "what it says": row.says,
            "function": row.function.partition(".")[2],
            "test": row.test.replace("::test_", ": ")
            .replace("_", " ")
            .replace("test ", "test_", 1),
        }
        for row in EQUATIONS
    )


def theory(found: Findings, name: str) -> dict:
    """What the theory notebook wrote as reports/metrics/<name>.json, theory or posteriors; empty
    where it has not.
    """
    return read_json(found.folder / "metrics" / f"{name}.json")


def averages(found: Findings) -> DataFrame:
    """The average (9) by number of trajectories on both toys, between K* and L, bits."""
    return DataFrame(
        {
            "data": name.replace("_", " ").capitalize(),
            "T": str(its["T"]),
            "K*": number(its["K_star"], 2),
            **{
                f"n = {row['trajectories']}": with_error(row["mean"], row["se"], 2)
                for row in its["averages"]
            },
            "log p(x⁰), exact": number(its["log_p"], 2) if "log_p" in its else "",
            "true L": number(its["L_true"], 2),
        }
        for name, its in theory(found, "theory").get("jarzynski", {}).items()
    ).fillna("")


def chains(found: Findings) -> DataFrame:
    """How far below L the heartbeat's K*, log p(x^0) and averages of one and of sixteen
    trajectories are, by T, bits.
    """
    return DataFrame(
        {
            "T": f"{row['T']:,}",
            "L − K*": number(row["L_true"] - row["K_star"], 4),
            "L − log p(x⁰)": number(row["L_true"] - row["log_p"], 4),
            "one trajectory": with_error(row["L_true"] - row["mean_1"], row["se_1"], 3),
            "sixteen": with_error(row["L_true"] - row["mean_16"], row["se_16"], 3),
            "spread of one": number(row["spread_1"], 2),
        }
        for row in theory(found, "theory").get("chains", [])
    )


def row_posteriors(found: Findings) -> DataFrame:
    """Divergence from the exact posterior of a Gaussian row by each way of inpainting, nats; a
    column for each T.
    """
    rows: dict = {}
    for e in theory(found, "posteriors").get("row", []):
        first = {"correlation": f"{e['correlation']:g}", "how the known pixels enter": e["way"]}
        row = rows.setdefault((e["correlation"], e["way"]), first)
        row[f"T = {e['T']}"] = with_error(e["KL"], e.get("KL_se"), 3)
    return DataFrame(list(rows.values())).fillna("")


def bit_posteriors(found: Findings) -> DataFrame:
    """Total variation between samples given evidence of bits and the exact posterior."""
    return DataFrame(
        {
            "evidence": e["evidence"],
            "r": e["way"],
            "total variation": number(e["total_variation"], 3),
            "among valid heartbeats": ""
            if e["among_valid"] is None
            else number(e["among_valid"], 3),
            "valid (%)": number(100 * e["valid"], 1),
        }
        for e in theory(found, "posteriors").get("bits", [])
    )


def weighted_posteriors(found: Findings) -> DataFrame:
    """Divergence of samples of two pixels from the exact posterior by number of particles, at the
    most steps, nats.
    """
    pair = theory(found, "posteriors").get("particles", {}).get("pair", {"rows": []})
    rows: dict = {}
    for e in pair["rows"]:
        row = rows.setdefault((e["way"], e["T"]), {"r": e["way"], "T": str(e["T"])})
        row[f"n = {e['particles']}"] = number(e["KL"], 3)
        row["by the T steps alone"] = number(e["own_KL"], 4)
    return DataFrame(list(rows.values())).fillna("")


def schedule_limits(found: Findings) -> DataFrame:
    """K* and K after short trainings of the swiss roll's schedules, and K* of the heartbeat's,
    bits.
    """
    its = theory(found, "theory").get("schedules", {"swiss_roll": [], "heartbeat": []})
    rows = [
        {
            "data": "Swiss roll, T = 40",
            "schedule": e["schedule"],
            "K*": with_error(e["K_star"], e["K_star_se"], 2),
            "K, β fixed": number(e["K_fixed"], 2) if "K_fixed" in e else "",
            "K, β learned": number(e["K_learned"], 2) if "K_learned" in e else "",
        }
        for e in its["swiss_roll"]
    ]
    names = {
        "inverse": "1/(T−t+1)",
        "small_first": "the same after a small first step",
        "best": "after ascent on K*",
    }
    for e in its["heartbeat"]:
        rows += [
            {"data": f"Heartbeat, T = {e['T']}", "schedule": label, "K*": number(e[name], 3)}
            for name, label in names.items()
        ]
    return DataFrame(rows).fillna("")


def differences(found: Findings) -> DataFrame:
    """Paper, program and this package on the toys, and on CIFAR-10 by short trainings that differ
    in one choice, bits.
    """
    rows = [
        {
            "what": e["what"],
            "data": e["data"],
            "here": e["here"],
            "there": e["there"],
            "K there − K here": ("± " if e.get("spread") else "")
            + number(e["K_there"] - e["K"], 4),
            "K* there − K* here": number(e["K_star_there"] - e["K_star"], 2)
            if "K_star" in e
            else "",
        }
        for e in theory(found, "theory").get("differences", {"rows": []})["rows"]
    ]
    return DataFrame(rows).fillna("")
