"""Tables of posteriors on images, as ``measure restorations`` measured them; ``tables`` has
them with the others.
"""

from __future__ import annotations

from pandas import DataFrame

from replication.pages.findings import Findings, number, with_error
from replication.pages.theory_tables import theory
from replication.settings.registry import EXPERIMENTS


def restorations(found: Findings, which: str) -> DataFrame:
    """Digits by class ("classes"), the gains of (9) ("averages"), or how well images are restored
    ("tasks"), as texts.
    """
    its = theory(found, "restorations")
    return DataFrame(
        {"classes": _classes, "averages": _averages, "tasks": _tasks}[which](its) if its else []
    )


def _classes(its: dict) -> list[dict]:
    return [
        {
            "samples": row["samples"],
            "taken for the wanted digit (%)": with_error(
                100 * row["wanted"], 100 * row["wanted_se"], 1
            ),
            "taken surely for any (%)": number(100 * row["sure"], 1),
            "number": str(row["n"]),
        }
        for row in its["classes"]["rows"]
    ]


def _averages(its: dict) -> list[dict]:
    return [
        {
            "model": EXPERIMENTS[name].title,
            "steps": str(each["T"]),
            "K of these steps": number(each["K"], 3),
            "trajectories": str(row["trajectories"]),
            "gain over K (bits/pixel)": number(row["gain"], 4),
            "95 % over images": f"{number(row['low'], 4)} to {number(row['high'], 4)}",
        }
        for name, each in its["averages"].items()
        for row in each["rows"]
    ]


def _tasks(its: dict) -> list[dict]:
    return [
        {
            "task": task,
            "model": title,
            "method": row["method"],
            "images": str(row["n"]),
            "PSNR (dB)": with_error(row["PSNR"], row["PSNR_se"], 2),
            "SSIM": with_error(row["SSIM"], row["SSIM_se"], 3),
            "spectrum (dB)": number(row["spectrum"], 2),
        }
        for experiment, title in its["models"].items()
        for task, entry in its[experiment]["tasks"].items()
        for row in entry["rows"]
    ]
