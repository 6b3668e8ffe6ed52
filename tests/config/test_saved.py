"""Opening a saved run executes nothing that its config names, unless its name is on the list of `trust`."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from attendgen.config.saved import read_config, record_config
from attendgen.config.trust import VARIABLE
from attendgen.inference.load import load
from attendgen.runs.layout import RECORD
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from helpers import tiny_data
from helpers.errors import Command, assert_mistake, refusal
from helpers.runs import SharedRuns

CANARY = "executed"  # every hostile target would make this file


@pytest.fixture
def trained(runs: SharedRuns) -> Path:
    """A run of sentence pairs."""
    return runs("toy_chat")


def hostile(canary: Path) -> dict[str, Any]:
    """Targets that leave a trace if they are called; each as a node of a config."""
    save = {"_target_": "torch.save", "obj": 1, "f": str(canary)}
    public = "attendgen.layers.DotAttention"
    return {
        "torch.save": save,
        "write_text": {"_target_": "attendgen.utils.files.write_text", "path": str(canary), "text": ""},
        "run_process": {
            "_target_": "attendgen.sweeps.trial.run_process",
            "command": ["touch", str(canary)],
            "variables": {},
        },
        "Popen": {"_target_": "subprocess.Popen", "args": ["touch", str(canary)]},
        "run": {"_target_": "torch.utils.collect_env.run", "command": f"touch {canary}"},
        "system": {"_target_": "os.system", "command": f"touch {canary}"},
        "copy": {"_target_": "shutil.copy", "src": __file__, "dst": str(canary)},
        "FileHandler": {"_target_": "logging.FileHandler", "filename": str(canary)},
        "ZipFile": {"_target_": "zipfile.ZipFile", "file": str(canary), "mode": "w"},
        "import": {"_target_": "evil_on_import.Model"},
        "nested": {"_target_": public, "scaled": save},
        "in a list": {"_target_": public, "scaled": [[{"deep": save}]]},
        "partial": {"_partial_": True, **save},
        "recursive": {"_target_": public, "_recursive_": False, "scaled": save},
        "hydra.utils.call": {"_target_": "hydra.utils.call", "config": save},
        "as an argument": {"_target_": public, "_args_": [save]},
        "reference": {"_target_": "${evil}", "obj": 1, "f": str(canary)},
        "alias": [deep := {"_target_": public}, deep],
        "tuple": ({"_target_": "${evil}", "obj": 1, "f": str(canary)},),
        "bracketed key": {"_target_": public, "scaled[_target_]": "torch.save"},
        "expression": "${oc.create:{_target_: torch.save, obj: 1, f: '" + str(canary) + "'}}",
        "put together": "${dollar}{oc.create:${evil_node}}",
        "escaped": "\\${oc.create:{_target_: torch.save, obj: 1, f: '" + str(canary) + "'}}",
    }


PLACES = ["model", "model.attention", "task.optimizer", "task", "data", "decoding", "callbacks.evil", "trainer.plugins"]


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where hostile targets leave their trace; so does a module on the path when it is imported."""
    canary = tmp_path / CANARY
    package = tmp_path / "modules"
    package.mkdir()
    (package / "evil_on_import.py").write_text(f"open({str(canary)!r}, 'w').close()\nModel = dict\n")
    monkeypatch.syspath_prepend(package)
    monkeypatch.delenv(VARIABLE, raising=False)
    return canary


def poison(config: dict[str, Any], place: str, node: Any, canary: Path) -> dict[str, Any]:
    """A config with a hostile node at a place."""
    config = {
        **config,
        "evil": "torch.save",
        "dollar": "$",
        "evil_node": f"{{_target_: torch.save, obj: 1, f: {canary}}}",
    }
    *groups, last = place.split(".")
    inner = config
    for group in groups:
        inner[group] = dict(inner[group])
        inner = inner[group]
    inner[last] = [node] if last == "plugins" else node
    return config


def write_run(folder: Path, trained: Path, config: dict[str, Any], *copied: str) -> Path:
    """A run directory with this config and copies of another run's files."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("vocabulary.json", *copied):
        (folder / name).write_bytes((trained / name).read_bytes())
    return folder


CASES = [*(("model.attention", kind) for kind in hostile(Path())), *((place, "torch.save") for place in PLACES)]


@pytest.mark.parametrize(("place", "kind"), CASES)
def test_opening_a_run_executes_nothing(trained: Path, canary: Path, tmp_path: Path, place: str, kind: str) -> None:
    config = poison(record_config(Run.find(trained).config), place, hostile(canary)[kind], canary)
    whole = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    whole[RECORD]["config"] = config
    torch.save(whole, tmp_path / "evil.ckpt")
    folder = write_run(tmp_path / "run", trained, config, "checkpoints/best.ckpt")
    for name in (tmp_path / "evil.ckpt", folder):
        assert str(name) in refusal(load, name)
    assert not canary.exists()
    assert "evil_on_import" not in sys.modules


@pytest.mark.parametrize("form", ["[_target_]", "._target_", " _target_"])
def test_a_key_that_is_a_path_executes_nothing(trained: Path, canary: Path, tmp_path: Path, form: str) -> None:
    whole = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    node = {"_target_": "torch.save", "obj": 1, "f": str(canary), "_partial_": False}
    for key, value in node.items():
        whole[RECORD]["config"]["model"][f"decoder{form}".replace("_target_", key)] = value
    run = shutil.copytree(trained, tmp_path / "run")
    torch.save(whole, run / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt: model: field 'decoder"):
        load(run)
    assert not canary.exists()


def test_a_checkpoint_that_differs_from_its_runs_config_executes_nothing(
    trained: Path, canary: Path, tmp_path: Path
) -> None:
    whole = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    own = whole[RECORD]["config"]
    folder = write_run(tmp_path / "run", trained, yaml.safe_load((trained / "config.yaml").read_text()))
    whole[RECORD]["config"] = poison(own, "model.attention", hostile(canary)["torch.save"], canary)
    torch.save(whole, folder / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt: model\.attention\._target_=torch\.save"):
        load(folder)
    assert not canary.exists()


# every command, and every way in which a run is opened
COMMANDS = {
    "evaluate": ["evaluate", "RUN", "--out", "OUT"],
    "evaluate, with a change": ["evaluate", "RUN", "model.new=1", "--out", "OUT"],
    "generate": ["generate", "RUN", "tu vas bien ?"],
    "caption": ["caption", "RUN", "IMAGE"],
    "ensemble": ["ensemble", "RUN", "GOOD", "--out", "OUT"],
    "merge": ["merge", "GOOD", "RUN", "--out", "OUT"],
    "rescale": ["rescale", "RUN", "--out", "OUT"],
    "resume": ["train", "resume=RUN"],
    "init": ["train", "experiment=toy_chat", "init_from=RUN", "hydra.run.dir='OUT'", "callbacks.progress=null"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_executes_a_runs_code(
    trained: Path, canary: Path, tmp_path: Path, attendgen: Command, command: str
) -> None:
    config = poison(record_config(Run.find(trained).config), "model.attention", hostile(canary)["import"], canary)
    run = write_run(tmp_path / "run", trained, config, "checkpoints/best.ckpt", "checkpoints/last.ckpt")
    image = tiny_data.image(tmp_path / "red.png", "red")
    paths = {"RUN": run, "GOOD": trained, "OUT": tmp_path / "out", "IMAGE": image}
    arguments = []
    for argument in COMMANDS[command]:
        for word, path in paths.items():
            argument = argument.replace(word, str(path))
        arguments.append(argument)
    advice = ("--trust evil_on_import", "attendgen trust evil_on_import")
    assert_mistake(attendgen(*arguments), run, "model.attention", "evil_on_import.Model", *advice)
    assert not canary.exists()
    assert "evil_on_import" not in sys.modules
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["${nowhere}", "${data.root}", "${a", "$" + "{oc.env:HOME}"])
def test_a_reference_that_leads_nowhere_is_one_line(value: str, tmp_path: Path) -> None:
    data = {"model": {"x": 1}, "task": {"x": 1}, "data": {"root": value}}
    assert "config.yaml: " in refusal(read_config, data, tmp_path / "config.yaml")


@pytest.mark.parametrize("data", [None, [], "text", {}, {"model": {}}, {"model": {}, "task": "x"}])
def test_a_file_that_is_not_a_runs_config_is_one_line(data: Any, tmp_path: Path) -> None:
    message = refusal(read_config, data, tmp_path / "config.yaml")
    assert "config.yaml: " in message
    assert "task" in message
    assert "missing" in message


def test_references_stay_and_other_expressions_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    config = OmegaConf.create(
        {"seed": 1, "root": "${oc.env:SOMEWHERE}/pairs", "more": ["${seed}", {"x": "${oc.env:SOMEWHERE}"}]}
    )
    assert record_config(config) == {"seed": 1, "root": "/data/pairs", "more": ["${seed}", {"x": "/data"}]}
