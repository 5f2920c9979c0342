import dataclasses
import subprocess
import sys

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from nonequilibrium.errors import ParameterError
from replication.__main__ import main
from replication.files import ROOT
from replication.settings import registry
from replication.settings.fields import nearest, overrides
from replication.settings.registry import EXPERIMENTS, SECTIONS
from replication.settings.settings import check, evaluation, load, profile, quick


def test_params_yaml_is_complete_and_in_range():
    for section in SECTIONS:
        load(section)
    for name, its in EXPERIMENTS.items():
        for which in ("quick", "full"):
            assert evaluation(name, which).n_heldout > 0
        assert (ROOT / f"notebooks/{its.notebook}.ipynb").exists()
        if its.images is False:
            assert its.model(**vars(quick(name))).params.seed == 0


def test_profiles_are_by_name():
    for name, profiles in yaml.safe_load((ROOT / "params.yaml").read_text())["profiles"].items():
        assert {which: profile(name, which) for which in ("quick", "full")} == profiles
    profile("theory", "quick")["T"] = 1
    assert profile("theory", "quick")["T"] == 50, "the next reader has what the file says"
    with pytest.raises(ParameterError, match="profile 'quik' is unknown; did you mean 'quick'?"):
        profile("theory", "quik")


ROLL, LAW = {"like": "swiss_roll"}, "nonequilibrium.data.toy"


@pytest.mark.parametrize(
    "entries, message",
    [
        (
            ROLL | {"titel": "x"},
            "experiments.other: entry 'titel' is unknown; did you mean 'title'",
        ),
        ({"like": "swiss_rol"}, "experiment 'swiss_rol' is unknown; did you mean 'swiss_roll'?"),
        (ROLL | {"params": "PointParams"}, "params 'PointParams' is unknown; did you mean 'Points"),
        ({"title": "x"}, "experiments.other: Experiment.__init__() missing"),
        (ROLL | {"law": f"{LAW}s.SwissRol"}, f"{LAW}s.SwissRol is not available"),
        (ROLL | {"law": f"{LAW}.SwissRoll"}, f"No module named '{LAW}'"),
    ],
)
def test_a_wrong_declaration_gets_one_sentence(entries, message):
    declared = registry.section("experiments") | {"other": entries}
    with pytest.raises(ParameterError) as error:
        registry.experiment("other", declared).model(**vars(quick("swiss_roll")))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "section, overrides, message",
    [
        ("swiss_rol", {}, "section 'swiss_rol' is unknown; did you mean 'swiss_roll'?"),
        ("heartbeat", {"n_step": 5}, "parameter 'n_step' is unknown; did you mean 'n_steps'?"),
        ("heartbeat", {"n_steps": 1}, "n_steps is 1; it must be a whole number from 2 to 100000"),
        ("heartbeat", {"n_steps": 2.5}, "heartbeat.n_steps is 2.5; it must be a whole number"),
        (
            "heartbeat",
            {"pi": "a fifth"},
            "pi is 'a fifth'; it must be a number from 0.001 to 0.999",
        ),
        ("heartbeat", {"pi": float("nan")}, "heartbeat.pi is nan"),
        ("heartbeat", {"n_steps": True}, "heartbeat.n_steps is True"),
        ("swiss_roll", {"learn_beta": 1}, "swiss_roll.learn_beta is 1; it must be true or false"),
        ("evaluate_heartbeat", {"n_heldout": 0}, "evaluate_heartbeat.n_heldout is 0"),
        ("Swiss Roll", {}, "did you mean 'swiss_roll'?"),
        ("swiss_roll", {"beta-1": 1e-5}, "did you mean 'beta_1'?"),
        ("mnist_dense", {"schedule": "Even log SNR"}, "did you mean 'even_log_snr'?"),
        ("swiss_roll", {"learn_beta": "perhaps"}, "'perhaps'; it must be true or false"),
        ("swiss_roll", {"noise": float("inf")}, "swiss_roll.noise is inf"),
        ("swiss_roll", {"seed": "9" * 5000}, "swiss_roll.seed is '9999"),
        (
            "swiss_roll",
            {"seed": "1e30"},
            "seed is '1e30'; it must be a whole number from 0 to 2147",
        ),
        ("swiss_roll", {"seed": [[list(range(99))] * 99] * 99}, "swiss_roll.seed is [["),
        ("swiss_roll", {"seed": "2:08"}, "swiss_roll.seed is '2:08'; it must be a whole number"),
        ("swiss_roll", [1], "overrides are [1]"),
        (
            "bark",
            {"data": "~no_such_user/x"},
            "bark.data is '~no_such_user/x'; it must be a name or a path",
        ),
        ("bark", {"data": "a\0b"}, "bark.data is 'a\\x00b'; it must be a name or a path"),
        ("swiss_roll", {"beta_1": 0.1, "alpha_bar_T": 0.9}, "leaves no more signal than"),
        ("mnist_dense", {"beta_1": 0.1, "alpha_bar_T": 0.9}, "leaves no more signal than"),
    ],
)
def test_wrong_names_and_values_get_one_sentence(section, overrides, message):
    with pytest.raises(ParameterError) as error:
        load(section, overrides)
    said = str(error.value)
    assert message in said and "\n" not in said and len(said) < 400


NUMBERS = ["1e-5", "1e-05", "1E-5", "1.e-5", ".00001", "+1e-5", "1_0e-6", "0.00001"]


@pytest.mark.parametrize("written", NUMBERS)
def test_a_number_in_any_usual_notation_is_a_number(written, tmp_path):
    assert load("swiss_roll", overrides([f"beta_1={written}"])).beta_1 == 1e-5
    path = tmp_path / "params.yaml"  # as `dvc exp run -S` and people write it
    text = (ROOT / "params.yaml").read_text()
    path.write_text(text.replace("beta_1: 1.0e-6", f"beta_1: {written}", 1))
    assert load("swiss_roll", path=path).beta_1 == 1e-5


def test_whole_numbers_and_flags_in_any_usual_notation():
    for text in ("20", "+20", "020", "2e1", "20.0", "2_0"):
        assert load("swiss_roll", overrides([f"n_steps={text}"])).n_steps == 20
    flags = {"no": False, "off": False, "FALSE": False, "yes": True, "On": True, "true": True}
    for text, value in flags.items():
        assert load("swiss_roll", overrides([f"learn_beta={text}"])).learn_beta is value


@pytest.mark.parametrize(
    "item, message",
    [
        ("x=[1", "parameter 'x': the value '[1' is not YAML"),
        ("x=" + "[" * 1500, "is not YAML: maximum recursion depth exceeded"),
        ("x={a: 1, a: 2}", "the name 'a' stands twice"),
        ("x=[!!timestamp y]", "is not YAML"),
        ("x=[!!python/object:os.system y]", "is not YAML"),
        ("x", "not of the form NAME=VALUE"),
        ("=1", "not of the form NAME=VALUE"),
    ],
)
def test_a_value_that_is_none_gets_one_sentence(item, message):
    with pytest.raises(ParameterError) as error:
        overrides([item])
    said = str(error.value)
    assert message in said and "\n" not in said and len(said) < 300
    with pytest.raises(ParameterError, match="'seed=2' is given twice"):
        overrides(["seed=1", "seed=2"])


TWICE = b"swiss_roll: {seed: 1}\nswiss_roll: {seed: 2}"


@pytest.mark.parametrize(
    "content, message",
    [
        (TWICE, "the name 'swiss_roll' stands twice, again in line 2"),
        (b"swiss_roll: {seed: 1, seed: 2}", "the name 'seed' stands twice, again in line 1"),
        ("# é\nswiss_roll: {}".encode("latin-1"), "params.yaml is not YAML"),
        ("swiss_roll: {}".encode("utf-16-le"), "params.yaml is not YAML"),
        (b"\xff\xfeswiss", "params.yaml is not YAML"),
        (b"", "params.yaml has no section 'swiss_roll'"),
        (b"swiss_roll: 5", "params.yaml has no section 'swiss_roll'"),
        (b"heartbeat: {}", "params.yaml has no section 'swiss_roll'"),
        (b"swiss_roll: [", "params.yaml is not YAML"),
        (b"[" * 1500, "params.yaml is not YAML: maximum recursion depth exceeded"),
        (None, "params.yaml cannot be read (No such file or directory)"),
    ],
)
def test_a_params_file_that_is_not_one_gets_one_sentence(content, message, tmp_path):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParameterError) as error:
        load("swiss_roll", path=path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_near_misses_are_suggested():
    names = sorted(path.stem for path in (ROOT / "notebooks").rglob("*.ipynb"))
    for said, meant in {
        "swiss roll": "01_swiss_roll",
        "01": "01_swiss_roll",
        "MNIST": "03_mnist",
        "Train": "train",
    }.items():
        assert nearest(said, names) == meant
    assert nearest("MNIST dense", SECTIONS) == "mnist_dense"
    assert nearest("nothing like it", SECTIONS) is None


def test_a_name_that_is_not_written_has_its_default(tmp_path):
    with pytest.raises(ParameterError, match="mnist_conv: parameter 'data' is missing"):
        check("mnist_conv", {})
    path = tmp_path / "params.yaml"
    path.write_text("mnist_conv: {data: mnist}")
    made = load("mnist_conv", path=path)
    assert made.bumps == 16 and made == check("mnist_conv", {"data": "mnist", "bumps": 16})
    path.write_text("mnist_conv: {data: mnist, bumps: 8}")
    assert load("mnist_conv", path=path).bumps == 8


def test_every_kind_of_parameters_can_be_made_of_its_defaults_and_a_data_set():
    for section, kind in SECTIONS.items():
        needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
        chosen = dict.fromkeys(needed, "mnist")
        made = check(section, chosen)
        for name, value in vars(made).items():
            check(section, chosen | {name: value})


@pytest.mark.parametrize(
    "change", ["mnist_dense.split=0.25", "+mnist_dense.bumps=8", "+mnist_dense_1x1.seed=3"]
)
def test_dvc_sets_every_parameter_written_out_or_not(change, tmp_path):
    """As `dvc exp run -S` does, with a plus before a name that params.yaml leaves out."""
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
        (["train", "--as", "a\\b"], "the result's name is"),
        (["train", "--as", ".."], "the result's name is '..'"),
        (["train", "--as", ""], "the result's name is ''"),
        (["train", "--as", "x" * 300], "at most 100"),
        (["../notebooks/../x"], "is unknown"),
        (["train", "-p", "overrides=5"], "parameter 'overrides' is '5'; it must be a mapping"),
        (["train", "-p", "experiment={a: 1}"], "'experiment' is {'a': 1}; it must be a name"),
        (
            ["train", "-p", "outputs=5"],
            "parameter 'outputs' is '5'; it must be a path, such as ./5",
        ),
        (
            ["train", "-p", "outputs=~no_such_user/x"],
            "parameter 'outputs' is '~no_such_user/x'; it must be a",
        ),
        (["01_swiss_roll", "-p", "seed=[1, 2]"], "'seed' is [1, 2]; it must be a whole number"),
        (["01_swiss_roll", "-p", "seed=true"], "'seed' is 'true'; it must be a whole number"),
        (["01_swiss_roll", "-p", "seed=1e30"], "'seed' is '1e30'; it must be a whole number"),
        (
            ["01_swiss_roll", "-p", "reports={a: b}"],
            "'reports' is {'a': 'b'}; it must be a name or a path",
        ),
        (["train", "-p", "experiment=heartbeats"], "experiment 'heartbeats' is unknown"),
        (["train", "-p", "overrides={n_steps: 0}"], "swiss_roll.n_steps is 0"),
        (["measure", "-p", "weights=nowhere.safetensors"], "no weights at nowhere.safetensors"),
        (["measure", "-p", "profile=fast"], "profile 'fast' is unknown; it must be one of quick"),
        (["03_mnist", "-p", "reports=nowhere"], "holds no measurements"),
    ],
)
def test_the_command_line_refuses_with_one_sentence_and_leaves_nothing(
    arguments, message, capsys, tmp_path, tmp_path_factory, monkeypatch
):
    ipython = tmp_path_factory.mktemp("ipython")  # a user's own imports are no parameters
    startup = ipython / "profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("import os, json as numbers\nmine = 1\n")
    monkeypatch.setenv("IPYTHONDIR", str(ipython))
    before = sorted((ROOT / "reports").rglob("*"))
    given = "outputs" in " ".join(arguments) or len(arguments) == 1
    assert main(["notebook", *arguments, *([] if given else ["-p", f"outputs={tmp_path}"])]) in (
        1,
        2,
    )
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and message in lines[0]
    assert not list(tmp_path.rglob("*")) and sorted((ROOT / "reports").rglob("*")) == before


def test_an_unknown_notebook_fails_in_a_real_process():
    command = [sys.executable, "-m", "replication", "notebook", "trian"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "did you mean 'train'" in result.stderr
