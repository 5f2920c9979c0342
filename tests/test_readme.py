import re

from nonequilibrium.files import ROOT
from nonequilibrium.report import readme
from nonequilibrium.report.findings import MODERN, load


def test_the_tables_are_made_from_the_metrics():
    found = load(ROOT / "reports")
    text = readme.toys(found) + readme.images(found)
    for name in ("swiss_roll", "heartbeat"):
        m = found.metrics[name]
        digits = 4 if name == "heartbeat" else 2
        assert f"**{m['K']:.{digits}f} ± ".replace("-", "−") in text
    for name, m in found.images.items():
        between = " bits/pixel, " if name in MODERN else " | "
        assert f"**{m['K']:.3f} ± {m['K_se']:.3f}**{between}**{m['bits_per_dim']:.3f}**" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {6, 8}, "every row of a table has as many cells as its head"


def test_the_command_changes_nothing_but_the_tables(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    found = load(ROOT / "reports")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "load", lambda _: found)
    readme.run(None)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"before\n{readme.BEGIN}\n|") and text.endswith(f"{readme.END}\nafter\n")
    assert "old" not in text and not re.search(r"\bnan\b", text)
