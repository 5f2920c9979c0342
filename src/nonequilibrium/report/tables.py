"""Tables of the report about the toys and about the whole, made from what the other stages wrote."""

from __future__ import annotations

import pandas as pd
from IPython.display import HTML, display

from nonequilibrium.report import page
from nonequilibrium.report.findings import TITLES, Findings, gap_digits, number


def table(rows: list[dict]) -> HTML:
    """Rows as an HTML table."""
    return HTML(pd.DataFrame(rows).to_html(index=False, border=0, justify="left"))


def table_1(found: Findings) -> HTML:
    """Our K, the paper's and the limits, a row an experiment."""
    rows = []
    for name, m in found.metrics.items():
        digits = 4 if name == "heartbeat" else 2
        rows.append(
            {
                "data": TITLES[name],
                "K (ours)": f"{number(m['K'], digits)} ± {number(m['K_se'], digits)}",
                "K (paper)": number(m["paper"]["K"], 3 if name == "heartbeat" else 2),
                "K − L_null (ours)": number(m["K_minus_L_null"], 3),
                "K − L_null (paper)": number(m["paper"]["K_minus_L_null"], 3),
                "K* (limit)": number(m["limit"]["K_star"], digits),
                "K* − K, measured directly": f"{number(m['gap'], gap_digits(name))} ± {number(m['gap_se'], gap_digits(name))}",
                "true L": number(m["limit"]["L_true"], digits),
                "unit": m["unit"],
            }
        )
    return table(rows)


def claims(found: Findings) -> list[dict]:
    """Rows for ``figures.claim_result_limit``."""
    m = found.metrics
    roll, wide, beat = m["swiss_roll"], m["swiss_roll_wide"], m["heartbeat"]
    return [
        {
            "title": "Swiss roll (bits per point)",
            "points": [
                ("paper", roll["paper"]["K"], 0, "paper"),
                ("ours, 16 units", roll["K"], roll["K_se"], "ours"),
                ("K*, its schedule", roll["limit"]["K_star"], 0, "limit"),
                (f"ours, {wide['units']} units", wide["K"], wide["K_se"], "ours"),
                ("K*, its schedule", wide["limit"]["K_star"], 0, "limit"),
                ("true L", roll["limit"]["L_true"], 0, "limit"),
            ],
        },
        {
            "title": "Binary heartbeat (bits per sequence)",
            "points": [
                ("paper", beat["paper"]["K"], 0, "paper"),
                ("ours", beat["K"], beat["K_se"], "ours"),
                (f"K*, T = {beat['n_steps']}", beat["limit"]["K_star"], 0, "limit"),
                ("true L", beat["limit"]["L_true"], 0, "limit"),
            ],
        },
    ]


def seeds_table(found: Findings) -> HTML:
    """K of five training seeds, a row an experiment."""
    rows = []
    for name, entry in found.seeds.items():
        digits = 4 if name == "heartbeat" else 2
        row = {"data": TITLES[name]}
        row |= {f"seed {run['seed']}": number(run["K"], digits) for run in entry["runs"]}
        row["mean ± spread"] = f"{number(entry['K']['mean'], digits)} ± {number(entry['K']['std'], digits)}"
        rows.append(row)
    return table(rows) if rows else HTML("<p>Not measured yet: <code>dvc repro --force --single-item seeds</code>.</p>")


def heartbeat_samples(found: Findings) -> HTML:
    """How many true samples are valid, against the ceiling, and the test of the offsets."""
    m = found.metrics.get("heartbeat")
    if m is None:
        return HTML("<p>Not measured yet.</p>")
    return HTML(
        f"<p>Of {m['n_samples']:,} true samples {100 * m['valid']:.2f} % are valid heartbeats; from a perfect x¹ the flips of the "
        f"last step alone allow {100 * m['valid_ceiling']:.2f} %. Offsets 0 to 4 occur {', '.join(map(str, m['offsets']))} times: "
        f"equally often by a chi-square test (p = {m['offsets_p_value']:.2f}).</p>"
    )


def pictures(found: Findings, names: list[str], caption: str) -> None:
    """Show figures that other stages drew, embedded, with a caption; says so where one is missing."""
    paths = [found.folder / "figures" / name for name in names]
    for path in paths:
        if not path.exists():
            display(HTML(f"<p>{path.name} has not been drawn yet.</p>"))
    if drawn := [path for path in paths if path.exists()]:
        display(HTML(page.figure(drawn, caption)))


def provenance_table(found: Findings) -> HTML:
    """Command, commit, seed and time of every stage."""
    rows = [
        {
            "stage": name,
            "command": p["command"],
            "commit": p["commit"] or "",
            "seed": p["seed"],
            "seconds": p["seconds"],
        }
        for name, p in found.provenance.items()
    ]
    return table(rows) if rows else HTML("<p>No stage has run here yet.</p>")
