import subprocess
import sys

import papermill
import pytest
import yaml

from nonequilibrium.__main__ import main
from nonequilibrium.fields import ParameterError
from nonequilibrium.files import ROOT
from nonequilibrium.params import SECTIONS, check, load


def test_params_yaml_is_complete_and_in_range():
    for section in SECTIONS:
        load(section)


@pytest.mark.parametrize(
    "section, overrides, message",
    [
        ("swiss_rol", {}, "section 'swiss_rol' is unknown; did you mean 'swiss_roll'?"),
        ("heartbeat", {"n_step": 5}, "parameter 'n_step' is unknown; did you mean 'n_steps'?"),
        ("heartbeat", {"n_steps": 1}, "heartbeat.n_steps is 1; it must be a whole number from 2 to 100000"),
        ("heartbeat", {"n_steps": 2.5}, "heartbeat.n_steps is 2.5; it must be a whole number"),
        ("heartbeat", {"pi": "a fifth"}, "heartbeat.pi is 'a fifth'; it must be a number from 0.001 to 0.999"),
        ("heartbeat", {"pi": float("nan")}, "heartbeat.pi is nan"),
        ("heartbeat", {"n_steps": True}, "heartbeat.n_steps is True"),
        ("swiss_roll", {"learn_beta": 1}, "swiss_roll.learn_beta is 1; it must be true or false"),
        ("evaluate_heartbeat", {"n_heldout": 0}, "evaluate_heartbeat.n_heldout is 0"),
    ],
)
def test_wrong_names_and_values_get_one_sentence(section, overrides, message):
    with pytest.raises(ParameterError) as error:
        load(section, overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


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
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["heartbeat"]
    values.pop("pi")
    with pytest.raises(ParameterError, match="parameter 'pi' is missing"):
        check("heartbeat", values)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["trian"], "notebook 'trian' is unknown; did you mean 'train'?"),
        (["train", "-p", "experimnt=heartbeat"], "'experimnt' is unknown; did you mean 'experiment'?"),
        (["train", "-p", "experiment"], "not of the form NAME=VALUE"),
        (["train", "--params", "heartbeats"], "section 'heartbeats' is unknown"),
        (["train", "-p", "experiment=heartbeats"], "experiment 'heartbeats' is unknown"),
        (["train", "-p", "overrides={n_steps: 0}"], "swiss_roll.n_steps is 0"),
        (["01_swiss_roll", "-p", "weights=nowhere.safetensors"], "there are no weights at nowhere.safetensors"),
        (["02_heartbeat", "-p", "n_samples=-1"], "evaluate_heartbeat.n_samples is -1"),
    ],
)
def test_the_command_line_refuses_with_one_sentence_and_leaves_nothing(arguments, message, capsys, tmp_path):
    before = sorted((ROOT / "reports").rglob("*"))
    assert main(["notebook", *arguments, *(["-p", f"outputs={tmp_path}"] if len(arguments) > 1 else [])]) in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and message in lines[0]
    assert not list(tmp_path.rglob("*")) and sorted((ROOT / "reports").rglob("*")) == before


def test_papermill_itself_is_refused_a_misspelt_name(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="'sed' is unknown; did you mean 'seed'"):
        papermill.execute_notebook(
            str(ROOT / "notebooks/02_heartbeat.ipynb"), str(tmp_path / "x.ipynb"), {"sed": 1}, progress_bar=False
        )


def test_an_unknown_experiment_fails_in_a_real_process():
    command = [sys.executable, "-m", "nonequilibrium", "notebook", "trian"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "did you mean 'train'" in result.stderr
