"""Opening a run executes nothing that its config names but the public classes of AttendGen, torch.optim, Lightning."""

import importlib
import inspect
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from attendgen.cli.app import main
from attendgen.config.saved import record_config
from attendgen.config.trust import NAMES, VARIABLE, is_trusted, trust
from attendgen.hydra_app.app import run_hydra
from attendgen.inference.load import load
from attendgen.runs.checkpoint import RECORD
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from attendgen.utils.resources import bundled_models, conf_dir
from helpers import tiny_data

CANARY = "executed"  # every hostile target would make this file


def leaves(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in [(key, value), *leaves(value)]]
    return [leaf for value in node for leaf in leaves(value)] if isinstance(node, list) else []


def targets(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*.yaml") if "hydra" not in path.parts]
    return {value for path in files for key, value in leaves(yaml.safe_load(path.read_text())) if key == "_target_"}


def test_what_comes_with_the_package_may_be_instantiated():
    found = targets(conf_dir()) | {name for folder in bundled_models().values() for name in targets(folder)}
    assert len(found) > 40
    assert [name for name in sorted(found) if not is_trusted(name)] == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_on_the_list_is_what_its_module_defines(name: str):
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert inspect.isclass(found) or found.__module__ == module
    if module.startswith("attendgen."):
        assert found.__module__ == module


@pytest.mark.parametrize("name", ["torch.optim.Adam", "torch.optim.SGD", "lightning.pytorch.loggers.CSVLogger"])
def test_optimizers_and_parts_of_lightning_may_be_instantiated(name: str):
    assert is_trusted(name)


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "hydra.utils.call", "numpy.load"),
        *("hydra.utils.get_method", "torch.load", "torch.save", "torch.hub.load", "joblib.load", "shutil.copy"),
        *("torch.utils.collect_env.run", "logging.FileHandler", "zipfile.ZipFile", "pathlib.Path.write_text"),
        *(
            "attendgen.sweeps.trial.call",
            "attendgen.utils.files.write_text",
            "attendgen.runs.run.Run.find",
            "attendgen.cli.main.main",
        ),
        *(
            "attendgen.data.captions.features.np.load",
            "attendgen.models.captioner.torch.load",
            "attendgen.models.captioner",
        ),
        *("torch.optim.lr_scheduler.LambdaLR", "torch.optim.torch.load", "torch.optim", "torch.optim._x"),
        *("lightning.pytorch.callbacks.os.system", "lightning.pytorch.loggers.logger.importlib.import_module"),
        *("lightning.pytorch.callbacks.callback", "lightning.pytorch.trainer.trainer.os.system", "", ".", "a b"),
        *(None, 3, ["torch.optim.Adam"], {"_target_": "torch.optim.Adam"}),
    ],
)
def test_no_other_name_may_be_instantiated(name: Any):
    assert not is_trusted(name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of sentence pairs."""
    return tiny.Runs(tmp_path_factory.mktemp("runs"), {"toy_chat": ["toy_chat"]})("toy_chat")


def hostile(canary: Path) -> dict[str, dict[str, Any]]:
    """Targets that leave a trace if they are called; each as a node of a config."""
    save = {"_target_": "torch.save", "obj": 1, "f": str(canary)}
    return {
        "torch.save": save,
        "write_text": {"_target_": "attendgen.utils.files.write_text", "path": str(canary), "text": ""},
        "call": {"_target_": "attendgen.sweeps.trial.call", "command": ["touch", str(canary)], "variables": {}},
        "Popen": {"_target_": "subprocess.Popen", "args": ["touch", str(canary)]},
        "run": {"_target_": "torch.utils.collect_env.run", "command": f"touch {canary}"},
        "system": {"_target_": "os.system", "command": f"touch {canary}"},
        "copy": {"_target_": "shutil.copy", "src": __file__, "dst": str(canary)},
        "FileHandler": {"_target_": "logging.FileHandler", "filename": str(canary)},
        "ZipFile": {"_target_": "zipfile.ZipFile", "file": str(canary), "mode": "w"},
        "import": {"_target_": "evil_on_import.Model"},
        "nested": {"_target_": "attendgen.layers.attention.Dot", "scaled": save},
        "in a list": {"_target_": "attendgen.layers.attention.Dot", "scaled": [[{"deep": save}]]},
        "partial": {"_partial_": True, **save},
        "recursive": {"_target_": "attendgen.layers.attention.Dot", "_recursive_": False, "scaled": save},
        "hydra.utils.call": {"_target_": "hydra.utils.call", "config": save},
        "as an argument": {"_target_": "attendgen.layers.attention.Dot", "_args_": [save]},
        "reference": {"_target_": "${evil}", "obj": 1, "f": str(canary)},
        "alias": [deep := {"_target_": "attendgen.layers.attention.Dot"}, deep],
        "tuple": ({"_target_": "${evil}", "obj": 1, "f": str(canary)},),
        "bracketed key": {"_target_": "attendgen.layers.attention.Dot", "scaled[_target_]": "torch.save"},
        "expression": "${oc.create:{_target_: torch.save, obj: 1, f: '" + str(canary) + "'}}",
        "put together": "${dollar}{oc.create:${evil_node}}",
        "escaped": "\\${oc.create:{_target_: torch.save, obj: 1, f: '" + str(canary) + "'}}",
    }


PLACES = ["model", "model.attention", "task.optimizer", "task", "data", "decoding", "callbacks.evil", "trainer.plugins"]


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where hostile targets leave their trace; a module that does so when it is imported stands on the path."""
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


CASES = [*(("model.attention", kind) for kind in hostile(Path())), *((place, "torch.save") for place in PLACES)]


@pytest.mark.parametrize(("place", "kind"), CASES)
def test_opening_a_run_executes_nothing(trained: Path, evil: Path, tmp_path: Path, place: str, kind: str):
    config = poison(record_config(Run.find(trained).config), place, hostile(evil)[kind], evil)
    whole = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    whole[RECORD]["config"] = config
    torch.save(whole, tmp_path / "evil.ckpt")
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "vocabulary.json").write_bytes((trained / "vocabulary.json").read_bytes())
    (folder / "checkpoints" / "best.ckpt").write_bytes((trained / "checkpoints" / "best.ckpt").read_bytes())
    for name in (tmp_path / "evil.ckpt", folder):
        with pytest.raises(UserError) as mistake:
            load(name)
        assert str(name) in str(mistake.value)
        assert "\n" not in str(mistake.value)
    assert not evil.exists()
    assert "evil_on_import" not in sys.modules


@pytest.mark.parametrize("form", ["[_target_]", "._target_", " _target_"])
def test_a_key_that_is_a_path_executes_nothing(trained: Path, evil: Path, tmp_path: Path, form: str):
    whole = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    node = {"_target_": "torch.save", "obj": 1, "f": str(evil), "_partial_": False}
    for key, value in node.items():
        whole[RECORD]["config"]["model"][f"decoder{form}".replace("_target_", key)] = value
    run = shutil.copytree(trained, tmp_path / "run")
    torch.save(whole, run / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt: model: field 'decoder"):
        load(run)
    assert not evil.exists()


@pytest.mark.parametrize("target", ["torch.save", "os.system", "nn.Linear"])
def test_a_trusted_package_is_not_what_it_imports(tmp_path: Path, monkeypatch, target: str):
    imports = "import os, torch\nfrom torch import nn\nfrom attendgen.layers.attention import General\n"
    code = f"{imports}class Mine(GeneralAttention): pass\n"
    (tmp_path / "importing_package.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "importing_package")
    assert is_trusted("importing_package.Mine")
    assert is_trusted("importing_package.General")
    assert not is_trusted(f"importing_package.{target}")


def victim(tmp_path: Path) -> Path:
    (tmp_path / "victim" / "deep").mkdir(parents=True)
    (tmp_path / "victim" / "deep" / "thesis.txt").write_text("mine")
    (tmp_path / "victim" / "metrics.csv").write_text("step,loss\n900,1\n")
    return tmp_path / "victim"


CSV = "{_target_: lightning.pytorch.loggers.CSVLogger, name: '', version: '', save_dir: VICTIM}"
ELSEWHERE = {
    "callbacks.best.dirpath": {"callbacks": {"best": {"dirpath": "VICTIM"}}},
    "callbacks.last.folder": {"callbacks": {"last": {"folder": "VICTIM"}}},
    "logger.save_dir": {"logger": yaml.safe_load(CSV)},
    "trainer.profiler.dirpath": {
        "trainer": {"profiler": {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "dirpath": "VICTIM"}}
    },
}


@pytest.mark.parametrize("field", ELSEWHERE)
def test_a_strangers_run_that_is_resumed_writes_in_its_own_folder(trained: Path, tmp_path: Path, field: str):
    place = victim(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    run = shutil.copytree(trained, tmp_path / "run")
    change = yaml.safe_load(yaml.safe_dump(ELSEWHERE[field]).replace("VICTIM", str(place)))
    config = OmegaConf.merge(yaml.safe_load((run / "config.yaml").read_text()), change)
    (run / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(config)))
    with pytest.raises(UserError, match=f"{field}=.*not in the run's own folder"):
        run_hydra([f"resume={run}", "epochs=9"])
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.parametrize("name", ["deep", "../victim/deep", "deep/thesis.txt"])
def test_a_strangers_run_that_is_resumed_deletes_nothing_of_others(trained: Path, tmp_path: Path, name: str):
    place = victim(tmp_path)
    run = shutil.copytree(trained, tmp_path / "run")
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = (state for state in last["callbacks"].values() if "dirpath" in state)
    state |= {"dirpath": str(run / "checkpoints"), "kth_best_model_path": str(place / name)}
    state["best_k_models"] = {str(place / name): torch.tensor(-1.0)}
    torch.save(last, run / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: names .* as a checkpoint of its own"):
        run_hydra([f"resume={run}", "epochs=9"])
    assert (place / "deep" / "thesis.txt").read_text() == "mine"


def test_a_strangers_run_that_is_resumed_writes_through_no_link(trained: Path, tmp_path: Path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "train.log").unlink()
    (run / "train.log").symlink_to(tmp_path / "profile")
    with pytest.raises(UserError, match=r"train\.log: a link"):
        run_hydra([f"resume={run}", "epochs=9"])
    assert not (tmp_path / "profile").exists()


def test_a_checkpoint_that_differs_from_its_runs_config_executes_nothing(trained: Path, evil: Path, tmp_path: Path):
    whole = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    whole[RECORD]["config"] = poison(whole[RECORD]["config"], "model.attention", hostile(evil)["torch.save"], evil)
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "vocabulary.json"):
        (folder / name).write_bytes((trained / name).read_bytes())
    torch.save(whole, folder / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt: model\.attention\._target_=torch\.save"):
        load(folder)
    assert not evil.exists()


# every command, and every way in which a run is opened
COMMANDS = {
    "evaluate": ["evaluate", "RUN", "--out", "OUT"],
    "evaluate, with a change": ["evaluate", "RUN", "model.new=1", "--out", "OUT"],
    "generate": ["generate", "RUN", "tu vas bien ?"],
    "caption": ["caption", "RUN", "IMAGE"],
    "ensemble": ["ensemble", "RUN", "GOOD", "--out", "OUT"],
    "merge": ["merge", "GOOD", "RUN", "--out", "OUT"],
    "calibrate": ["calibrate", "RUN", "--out", "OUT"],
    "resume": ["train", "resume=RUN"],
    "init": ["train", "experiment=toy_chat", "init_from=RUN", "hydra.run.dir='OUT'", "callbacks.progress=null"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_executes_a_runs_code(trained: Path, evil: Path, tmp_path: Path, monkeypatch, capfd, command: str):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    config = poison(record_config(Run.find(trained).config), "model.attention", hostile(evil)["import"], evil)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("vocabulary.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        (run / name).write_bytes((trained / name).read_bytes())
    words = {"RUN": run, "GOOD": trained, "OUT": tmp_path / "out", "IMAGE": tiny_data.image(tmp_path / "red.png", "red")}
    arguments = []
    for argument in COMMANDS[command]:
        for word, path in words.items():
            argument = argument.replace(word, str(path))
        arguments.append(argument)
    monkeypatch.setattr(sys, "argv", ["attendgen", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("attendgen: ")]
    assert stop.value.code == 2
    assert len(lines) == 1
    for part in (
        run,
        "model.attention",
        "evil_on_import.Model",
        "--trust evil_on_import",
        f"{VARIABLE}=evil_on_import",
    ):
        assert str(part) in lines[0]
    assert not evil.exists()
    assert "evil_on_import" not in sys.modules
    assert not (tmp_path / "out").exists()


OWN = """
from attendgen.layers.attention import GeneralAttention

class Mine(GeneralAttention):
    pass
"""


@pytest.mark.parametrize("how", ["option", "environment", "python"])
def test_a_package_that_the_user_trusts_is_used(trained: Path, tmp_path: Path, monkeypatch, capfd, how: str):
    (tmp_path / "own_attention.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "own_attention" if how == "environment" else "")
    own = ["model/attention=general", "model.attention._target_=own_attention.Mine"]
    run = tiny.Runs(tmp_path, {"own": ["toy_chat"]}, *own)("own")
    if how == "python":
        assert type(load(run, trust=["own_attention"]).task.model.decoder.attention).__name__ == "Mine"
        return
    trusted = ["--trust", "own_attention"] if how == "option" else []
    monkeypatch.setattr(sys, "argv", ["attendgen", "generate", str(run), "tu vas bien ?", *trusted])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0, capfd.readouterr().err


def test_trust_names_packages_and_adds_up(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    trust(["mypaper", "other.part"])
    trust(["mypaper"])
    assert is_trusted("mypaper.attention.Mine")
    assert is_trusted("other.part.Mine")
    assert not any(map(is_trusted, ["mypaper_evil.Mine", "other.Mine", "mypaperattention"]))
    for wrong in ("", "my paper", "a,b", "os;", "./x"):
        with pytest.raises(UserError, match="--trust"):
            trust([wrong])


def test_weights_of_a_timm_encoder_come_from_timm_alone():
    pytest.importorskip("timm")
    from attendgen.models.encoders.timm import TimmEncoder

    for name in ("hf-hub:somebody/evil", "local-dir:/tmp/evil"):
        with pytest.raises(UserError, match=r"encoder\.name"):
            TimmEncoder(name, pretrained=True)
