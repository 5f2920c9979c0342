import dataclasses
import subprocess
import sys

import pytest
from dvc.utils.hydra import apply_overrides

from nonequilibrium.errors import ParameterError
from replication.__main__ import main
from replication.files import ROOT
from replication.settings.fields import nearest, overrides
from replication.settings.registry import SECTIONS
from replication.settings.settings import check, load


def test_params_yaml_is_complete_and_in_range():
    for section in SECTIONS:
        load(section)


@pytest.mark.parametrize(
    "section, overrides, message",
    [
        ("swiss_rol", {}, "section 'swiss_rol' is unknown; did you mean 'swiss_roll'?"),
        ("heartbeat", {"n_step": 5}, "parameter 'n_step' is unknown; did you mean 'n_steps'?"),
        (
            "heartbeat",
            {"n_steps": 1},
            "heartbeat.n_steps is 1; it must be a whole number from 2 to 100000",
        ),
        ("heartbeat", {"n_steps": 2.5}, "heartbeat.n_steps is 2.5; it must be a whole number"),
        (
            "heartbeat",
            {"pi": "a fifth"},
            "heartbeat.pi is 'a fifth'; it must be a number from 0.001 to 0.999",
        ),
        ("heartbeat", {"pi": float("nan")}, "heartbeat.pi is nan"),
        ("heartbeat", {"n_steps": True}, "heartbeat.n_steps is True"),
        ("swiss_roll", {"learn_beta": 1}, "swiss_roll.learn_beta is 1; it must be true or false"),
        ("evaluate_heartbeat", {"n_heldout": 0}, "evaluate_heartbeat.n_heldout is 0"),
        ("Swiss Roll", {}, "did you mean 'swiss_roll'?"),
        ("swiss_roll", {"beta-1": 1e-5}, "did you mean 'beta_1'?"),
        ("mnist_dense", {"schedule": "Even log SNR"}, "did you mean 'even_log_snr'?"),
        (
            "swiss_roll",
            {"learn_beta": "perhaps"},
            "swiss_roll.learn_beta is 'perhaps'; it must be true or false",
        ),
        ("swiss_roll", {"noise": float("inf")}, "swiss_roll.noise is inf"),
        (
            "swiss_roll",
            {"seed": 10**5000},
            "swiss_roll.seed is a whole number of thousands of digits",
        ),
        ("swiss_roll", {"seed": "9" * 5000}, "swiss_roll.seed is '9999"),
        ("swiss_roll", {"seed": [[list(range(99))] * 99] * 99}, "swiss_roll.seed is [["),
        (
            "swiss_roll",
            {"seed": "2:08"},
            "swiss_roll.seed is '2:08'; it must be a whole number from 0 to 2147483647",
        ),
        ("swiss_roll", [1], "overrides are [1]"),
        (
            "swiss_roll",
            {"beta_1": 0.1, "alpha_bar_T": 0.9},
            "beta_1 = 0.1 leaves no more signal than alpha_bar_T = 0.9",
        ),
        (
            "mnist_dense",
            {"beta_1": 0.1, "alpha_bar_T": 0.9},
            "beta_1 = 0.1 leaves no more signal than alpha_bar_T = 0.9",
        ),
    ],
)
def test_wrong_names_and_values_get_one_sentence(section, overrides, message):
    with pytest.raises(ParameterError) as error:
        load(section, overrides)
    assert (
        message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400
    )


NUMBERS = {
    "1e-5": 1e-5,
    "1e-05": 1e-5,
    "1E-5": 1e-5,
    "1.e-5": 1e-5,
    ".00001": 1e-5,
    "+1e-5": 1e-5,
    "1_0e-6": 1e-5,
    "0.1": 0.1,
}


@pytest.mark.parametrize("written, value", NUMBERS.items())
def test_a_number_in_any_usual_notation_is_a_number(written, value, tmp_path):
    assert load("swiss_roll", overrides([f"beta_1={written}"])).beta_1 == value
    assert load("swiss_roll", {"beta_1": written}).beta_1 == value
    path = tmp_path / "params.yaml"  # as `dvc exp run -S` and people write it
    text = (ROOT / "params.yaml").read_text()
    path.write_text(
        text.replace("beta_1: 1.0e-6               # fixed", f"beta_1: {written}  # fixed", 1)
    )
    assert load("swiss_roll", path=path).beta_1 == value


def test_whole_numbers_and_flags_in_any_usual_notation():
    written = {"20": 20, "+20": 20, "020": 20, "2e1": 20, "20.0": 20, "2_0": 20, "0x14": 20}
    assert {
        text: load("swiss_roll", overrides([f"n_steps={text}"])).n_steps for text in written
    } == written
    flags = {"no": False, "off": False, "FALSE": False, "yes": True, "On": True, "true": True}
    assert {
        text: load("swiss_roll", overrides([f"learn_beta={text}"])).learn_beta for text in flags
    } == flags
    assert overrides(["weights=1e5", "outputs=2024", "seed=1e3"], texts={"weights", "outputs"}) == {
        "weights": "1e5",
        "outputs": "2024",
        "seed": 1000,
    }


@pytest.mark.parametrize(
    "item, message",
    [
        ("x=[1", "parameter 'x': the value '[1' is not YAML"),
        ("x=" + "[" * 1500, "is nested too deeply"),
        ("x={a: 1, a: 2}", "has the name 'a' twice"),
        ("x=!!timestamp y", "is not YAML"),
        ("x=!!python/object:os.system y", "is not YAML"),
        ("x=\0", "is not YAML"),
        ("x", "not of the form NAME=VALUE"),
        ("=1", "not of the form NAME=VALUE"),
    ],
)
def test_a_value_that_is_none_gets_one_sentence(item, message):
    with pytest.raises(ParameterError) as error:
        overrides([item])
    assert (
        message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300
    )
    with pytest.raises(ParameterError, match="'seed' is given twice"):
        overrides(["seed=1", "seed=2"])


@pytest.mark.parametrize(
    "content, message",
    [
        (
            b"swiss_roll: {seed: 1}\nswiss_roll: {seed: 2}",
            "has the name 'swiss_roll' twice, again in line 2",
        ),
        (b"swiss_roll: {seed: 1, seed: 2}", "has the name 'seed' twice, again in line 1"),
        ("# é\nswiss_roll: {}".encode("latin-1"), "params.yaml is not text in UTF-8"),
        ("swiss_roll: {}".encode("utf-16-le"), "params.yaml is not YAML"),
        (b"\xff\xfeswiss", "params.yaml is not text in UTF-8"),
        (b"", "params.yaml has no section 'swiss_roll'"),
        (b"swiss_roll: 5", "params.yaml has no section 'swiss_roll'"),
        (b"[" * 1500, "params.yaml is nested too deeply"),
    ],
)
def test_a_params_file_that_is_not_one_gets_one_sentence(content, message, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParameterError) as error:
        load("swiss_roll", path=path)
    assert message in str(error.value) and "\n" not in str(error.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(ParameterError, match="cannot be read"):
        load("swiss_roll", path=path)


def test_a_params_file_in_another_unicode_is_read(tmp_path):
    path = tmp_path / "params.yaml"
    for encoding in ("utf-16", "utf-8-sig"):
        path.write_text((ROOT / "params.yaml").read_text(), encoding=encoding)
        assert load("heartbeat", path=path) == load("heartbeat")


def test_near_misses_are_suggested():
    names = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    for said, meant in {
        "swiss roll": "01_swiss_roll",
        "01": "01_swiss_roll",
        "MNIST": "03_mnist",
        "Train": "train",
    }.items():
        assert nearest(said, names) == meant
    assert (
        nearest("MNIST dense", SECTIONS) == "mnist_dense"
        and nearest("nothing like it", SECTIONS) is None
    )


def test_a_broken_params_file_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    with pytest.raises(ParameterError, match="there is no params.yaml"):
        load("heartbeat", path=path)
    path.write_text("heartbeat: [")
    with pytest.raises(ParameterError, match="not YAML"):
        load("heartbeat", path=path)
    path.write_text("swiss_roll: {}")
    with pytest.raises(ParameterError, match="no section 'heartbeat'"):
        load("heartbeat", path=path)
    with pytest.raises(ParameterError, match="mnist_conv: parameter 'data' is missing"):
        check("mnist_conv", {})


def test_a_name_that_is_not_written_has_its_default(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("mnist_conv: {data: mnist}")
    made = load("mnist_conv", path=path)
    assert made.bumps == 16 and made == check("mnist_conv", {"data": "mnist", "bumps": 16})
    path.write_text("mnist_conv: {data: mnist, bumps: 8}")
    assert load("mnist_conv", path=path).bumps == 8


def test_every_kind_of_parameters_can_be_made_of_its_defaults_and_a_data_set():
    for section, kind in SECTIONS.items():
        fields = {f.name: f for f in dataclasses.fields(kind)}
        chosen = (
            {"data": "mnist"}
            if "data" in fields and fields["data"].default is dataclasses.MISSING
            else {}
        )
        made = check(section, chosen)
        for name in fields:
            check(section, chosen | {name: getattr(made, name)})


@pytest.mark.parametrize(
    "change", ["mnist_dense.split=0.25", "+mnist_dense.bumps=8", "+mnist_dense_1x1.seed=3"]
)
def test_dvc_sets_every_parameter_written_out_or_not(change, tmp_path):
    """As `dvc exp run -S` does; a plus stands before a name that params.yaml leaves to its default."""
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    apply_overrides(path, [change])
    section, _, rest = change.lstrip("+").partition(".")
    name, _, value = rest.partition("=")
    assert getattr(load(section, path=path), name) == float(value) != getattr(load(section), name)
    assert load("heartbeat", path=path) == load("heartbeat"), "the others keep what they had"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["trian"], "notebook 'trian' is unknown; did you mean 'train'?"),
        (
            ["train", "-p", "experimnt=heartbeat"],
            "'experimnt' is unknown; did you mean 'experiment'?",
        ),
        (["train", "-p", "experiment"], "not of the form NAME=VALUE"),
        (["train", "--as", "../../x"], "the result's name is '../../x'"),
        (["train", "--as", "a/b"], "the result's name is 'a/b'"),
        (["train", "--as", "a\\b"], "the result's name is"),
        (["train", "--as", ".."], "the result's name is '..'"),
        (["train", "--as", ""], "the result's name is ''"),
        (["train", "--as", "x" * 300], "at most 100"),
        (["../notebooks/../x"], "is unknown"),
        (["train", "-p", "overrides=5"], "parameter 'overrides' is 5; it must be a mapping"),
        (
            ["train", "-p", "experiment={a: 1}"],
            "parameter 'experiment' is {'a': 1}; it must be text",
        ),
        (["01_swiss_roll", "-p", "seed=[1, 2]"], "parameter 'seed' is [1, 2]; it must be a number"),
        (["01_swiss_roll", "-p", "seed=true"], "parameter 'seed' is True; it must be a number"),
        (
            ["01_swiss_roll", "-p", "reports={a: b}"],
            "parameter 'reports' is {'a': 'b'}; it must be a path",
        ),
        (["train", "-p", "experiment=heartbeats"], "experiment 'heartbeats' is unknown"),
        (["train", "-p", "overrides={n_steps: 0}"], "swiss_roll.n_steps is 0"),
        (
            ["measure", "-p", "weights=nowhere.safetensors"],
            "there are no weights at nowhere.safetensors",
        ),
        (
            ["measure", "-p", "profile=fast"],
            "profile 'fast' is unknown; it must be one of quick, full",
        ),
        (["02_heartbeat", "-p", "reports=nowhere"], "holds no measurements"),
    ],
)
def test_the_command_line_refuses_with_one_sentence_and_leaves_nothing(
    arguments, message, capsys, tmp_path, tmp_path_factory, monkeypatch
):
    ipython = tmp_path_factory.mktemp(
        "ipython"
    )  # what a user imports at each start is no parameter
    startup = ipython / "profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("import os, json as numbers\nmine = 1\n")
    monkeypatch.setenv("IPYTHONDIR", str(ipython))
    before = sorted((ROOT / "reports").rglob("*"))
    assert main(
        ["notebook", *arguments, *(["-p", f"outputs={tmp_path}"] if len(arguments) > 1 else [])]
    ) in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and message in lines[0]
    assert not list(tmp_path.rglob("*")) and sorted((ROOT / "reports").rglob("*")) == before


def test_an_unknown_experiment_fails_in_a_real_process():
    command = [sys.executable, "-m", "nonequilibrium", "notebook", "trian"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (
        result.returncode == 2
        and result.stderr.count("\n") == 1
        and "did you mean 'train'" in result.stderr
    )
