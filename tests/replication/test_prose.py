"""The report's tables and words: from what was measured, and from nothing."""

import re
import warnings

import pytest
from PIL import Image
from reported import write

from replication.files import ROOT
from replication.pages import page, prose, tables
from replication.pages.findings import Findings
from replication.settings import paper
from replication.settings.registry import EXPERIMENTS

WORDS_ALONE = {"glossary"}  # sections without numbers


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return write(tmp_path_factory.mktemp("report"))


@pytest.fixture
def nothing(tmp_path):
    return Findings(tmp_path)


@pytest.mark.parametrize("name", prose.SECTIONS)
def test_a_section_without_measurements_says_so(name, nothing):
    text = prose.section(name, nothing).lower()
    unmeasured = "not measured yet" in text or "has not been drawn yet" in text
    assert unmeasured is (name not in WORDS_ALONE)


@pytest.mark.parametrize("name", prose.SECTIONS)
def test_a_section_with_measurements_has_no_gap_and_only_maths_that_can_be_read(name, found):
    text = prose.section(name, found)
    assert "Not measured yet" not in text and "nan" not in re.findall(r"\w+", text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an equation that stays TeX warns
        seen = re.sub(r"<[^>]+>", "", page.markdown(text))
    assert "$" not in seen and "{" not in seen and "\\" not in seen


def test_every_remedy_names_an_experiment(nothing):
    text = (
        "".join(prose.section(name, nothing) for name in prose.SECTIONS)
        + (ROOT / "README.md").read_text()
    )
    named = re.findall(r"(?:train|measure)@(\w+)", text)
    assert len(named) > 10 and set(named) <= set(EXPERIMENTS)


def test_the_notebook_shows_every_section_of_the_page_once():
    source = (ROOT / "notebooks" / "08_report.ipynb").read_text(encoding="utf-8")
    shown = re.findall(r'prose\.section\(\\"(\w+)\\"', source)
    assert sorted(shown) == sorted(set(prose.SECTIONS) - {"glossary", "results"}), (
        "the glossary is in the introduction"
    )


def test_table_1_has_every_row_of_the_paper_with_a_status(found, nothing):
    table = tables.table_1(found).set_index("data")
    assert len(table) == len(paper.TABLE_1) + 2, (
        "MNIST too, which the paper refers to its Table 2, and bark's stand-in"
    )
    assert table.loc["Dead leaves", "status"] == "images of our own; see Table 2"
    bark, stand_in = table.loc["Bark"], table.loc["two photographs"]
    assert (bark["K, paper"], bark["K, ours"], bark["K − L_null, ours"]) == ("−0.55", "", "")
    assert (stand_in["K, paper"], stand_in["K, ours"]) == (
        "",
        f"{found.numbers['bark']['K']:.3f} ± 0.010",
    )
    assert "not to be compared" in stand_in["status"] and "could not be had" in bark["status"]
    roll = table.loc[EXPERIMENTS["swiss_roll"].title]
    assert (roll["K, paper"], roll["K, ours"], roll["status"]) == (
        "2.35",
        "3.00 ± 0.01",
        "0.65 above the paper's K",
    )
    assert table.loc[EXPERIMENTS["heartbeat"].title, "K, paper"] == "−2.414"
    assert "not measured yet" in set(tables.table_1(nothing)["status"])


def test_table_2_sets_ours_beside_the_paper_s(found):
    table = tables.table_2(found).set_index("model or samples")
    assert tuple(table.loc["diffusion"].iloc[-1][["paper", "ours"]]) == ("317 ± 2.7", "450.0 ± 3.0")
    assert table.loc["adversarial net", "status"] == "quoted by the paper"
    assert table.loc["diffusion, one network for every t", "ours"] == "500.0 ± 3.0"
    assert table.loc["MCGSM", "paper"] == "1.244" and table.loc["MCGSM", "status"].startswith(
        "images of our own"
    )
    assert sum(table["data"] == "MNIST, bits") == len(paper.PARZEN) + 2


def test_the_paper_s_bits_per_dimension_are_computed(found):
    table = tables.images(found, "cifar10").set_index("model")
    assert table.loc["the paper", "bits/dim"] == "4.20"
    assert table.loc["counts (no network)", "bits/dim"] == "4.000 ± 0.010"
    assert len(tables.images(found, "cifar10", replication=False)) == 2


def test_numbers_of_other_weights_are_marked(found, tmp_path):
    assert not found.stale("cifar10") and not found.stale("heartbeat")
    other = write(tmp_path)
    other.cards["cifar10"]["sha256"] = "another"
    assert other.stale("cifar10") and "other weights" in tables.images(other, "cifar10")["model"][0]


def test_the_gain_of_a_network_is_paired(found, nothing):
    mean, se = found.gain("cifar10_wide", "cifar10")
    assert mean == pytest.approx(0.5) and se == pytest.approx(0, abs=1e-6), (
        "image by image nothing but the shift is left"
    )
    assert (
        found.gain("heartbeat", "cifar10") is None
        and nothing.gain("cifar10_unet", "cifar10") is None
    )


def test_what_a_bit_costs_is_of_the_weights_that_were_measured(found, nothing, tmp_path):
    table = tables.costs(found).set_index("model")
    assert (
        len(table) == sum(its.images for its in EXPERIMENTS.values())
        and tables.costs(nothing).empty
    )
    row = table.loc[EXPERIMENTS["cifar10_unet"].title]
    assert list(row[["parameters", "gradient steps", "images a step", "minutes", "on"]]) == [
        "1,000",
        "10",
        "32",
        "1",
        "CPU",
    ]
    other = write(tmp_path)
    other.cards["cifar10_unet"] |= {"steps": 8, "hardware": "a card"}
    other.cards["cifar10"]["sha256"] = "another"
    table = tables.costs(other).set_index("model")
    assert list(table.loc[EXPERIMENTS["cifar10_unet"].title, ["gradient steps", "on"]]) == [
        "8",
        "a card",
    ]
    assert EXPERIMENTS["cifar10"].title not in table.index


def test_minutes_until_a_level_was_reached(found, nothing):
    assert found.minutes_to("cifar10", 5.0) == 1 and found.minutes_to("cifar10", 50) is None
    assert nothing.minutes_to("cifar10", 5.0) is None


def test_the_record_of_every_number_is_complete(found, nothing):
    commands = list(tables.provenance(found)["command"])
    for name in EXPERIMENTS:
        assert (
            f"dvc repro --force train@{name}" in commands
            and f"dvc repro measure@{name}" in commands
        )
    assert len(commands) == 2 * len(EXPERIMENTS) and tables.provenance(nothing).empty


def test_a_figure_is_embedded_where_it_was_drawn(found):
    path = found.folder / "figures" / "02_heartbeat" / "figure_2.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(path)
    text = prose.section("heartbeat", found)
    assert (
        text.count("data:image/png;base64") == 1
        and "K_against_T.png has not been drawn yet" in text
    )


def test_claims_and_curves_are_those_of_the_toys(found, nothing):
    panels = tables.claims(found)
    assert [panel["title"] for panel in panels] == [
        "Swiss roll (bits per point)",
        "Heartbeat (bits per sequence)",
    ]
    assert [kind for *_, kind in panels[0]["points"]] == [
        "paper",
        "ours",
        "limit",
        "ours",
        "limit",
        "limit",
    ]
    assert len(tables.toy_curves(found)) == 3 and tables.claims(nothing) == []
