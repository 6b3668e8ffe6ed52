"""What a saved run may instantiate: public classes of AttendGen, optimizers of torch, parts of Lightning."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import yaml
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from torch import nn

from attendgen.config.trust import NAMES, PUBLIC, VARIABLE, is_trusted, require_trusted, trust
from attendgen.inference.load import load
from attendgen.tasks.base import BaseTask
from attendgen.utils.errors import UserError
from attendgen.utils.resources import bundled_models, get_conf_dir
from helpers.errors import Command, refusal
from helpers.runs import SharedRuns


def iterate_values(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in [(key, value), *iterate_values(value)]]
    return [leaf for value in node for leaf in iterate_values(value)] if isinstance(node, list) else []


def targets(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*.yaml") if "hydra" not in path.parts]
    return {
        value for path in files for key, value in iterate_values(yaml.safe_load(path.read_text())) if key == "_target_"
    }


def test_shipped_configs_may_be_instantiated() -> None:
    found = targets(get_conf_dir()) | {name for folder in bundled_models().values() for name in targets(folder)}
    assert len(found) > 40
    assert [name for name in sorted(found) if not is_trusted(name)] == []


BASES: dict[str, tuple[type, ...]] = {
    "attendgen.callbacks": (pl.Callback,),
    "attendgen.models": (nn.Module,),
    "attendgen.tasks": (BaseTask,),
    "lightning": (pl.Trainer,),
    "lightning.pytorch": (pl.Trainer,),
    "lightning.pytorch.callbacks": (pl.Callback,),
    "lightning.pytorch.loggers": (Logger,),
    "lightning.pytorch.plugins": (Precision, CheckpointIO, LayerSync),
    "lightning.pytorch.profilers": (Profiler,),
    "lightning.pytorch.strategies": (Strategy,),
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_listed_name_is_a_public_class(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    package = importlib.import_module(module)
    found = getattr(package, attribute)
    assert inspect.isclass(found)
    assert found.__name__ == attribute
    assert issubclass(found, BASES.get(module, object))
    if module.startswith("attendgen."):
        assert attribute in package.__all__
        assert found.__module__.startswith(f"{module}.")


def test_every_package_of_lightning_has_a_base() -> None:
    assert {module for module in PUBLIC if module.startswith("lightning")} <= BASES.keys()


@pytest.mark.parametrize("name", ["torch.optim.Adam", "torch.optim.SGD", "lightning.pytorch.loggers.CSVLogger"])
def test_optimizers_and_parts_of_lightning_may_be_instantiated(name: str) -> None:
    assert is_trusted(name)


OTHER_NAMES: list[Any] = [
    *("os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "hydra.utils.call", "numpy.load"),
    *("hydra.utils.get_method", "torch.load", "torch.save", "torch.hub.load", "joblib.load", "shutil.copy"),
    *("torch.utils.collect_env.run", "logging.FileHandler", "zipfile.ZipFile", "pathlib.Path.write_text"),
    *("attendgen.sweeps.trial.run_process", "attendgen.utils.files.write_text", "attendgen.runs.run.Run.find"),
    *("attendgen.cli.app.main", "attendgen.data.captions.features.np.load", "attendgen.models.captioner.torch.load"),
    *("attendgen.models.captioner", "attendgen.models", "attendgen.data.open_data"),
    *("torch.optim.lr_scheduler.LambdaLR", "torch.optim.torch.load", "torch.optim", "torch.optim._x"),
    *("lightning.pytorch.callbacks.os.system", "lightning.pytorch.loggers.logger.importlib.import_module"),
    *("lightning.pytorch.callbacks.callback", "lightning.pytorch.trainer.trainer.os.system", "", ".", "a b"),
    *(None, 3, ["torch.optim.Adam"], {"_target_": "torch.optim.Adam"}),
]


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_no_other_name_may_be_instantiated(name: Any) -> None:
    assert not is_trusted(name)


@pytest.mark.parametrize("target", ["torch.save", "os.system", "nn.Linear"])
def test_a_trusted_package_is_not_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    imports = "import os, torch\nfrom torch import nn\nfrom attendgen.layers.attention import GeneralAttention\n"
    (tmp_path / "importing_package.py").write_text(f"{imports}class Mine(GeneralAttention): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "importing_package")
    assert is_trusted("importing_package.Mine")
    assert not is_trusted(f"importing_package.{target}")


def test_trust_names_packages_and_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    trust(["mypaper", "other.part"])
    trust(["mypaper"])
    assert is_trusted("mypaper.attention.Mine")
    assert is_trusted("other.part.Mine")
    assert not any(map(is_trusted, ["mypaper_evil.Mine", "other.Mine", "mypaperattention"]))
    for wrong in ("", "my paper", "a,b", "os;", "./x"):
        with pytest.raises(UserError, match="--trust"):
            trust([wrong])


@pytest.mark.parametrize(
    "package", ["attendgen", "attendgen.sweeps.trial", "hydra.utils", "omegaconf", "os", "builtins"]
)
def test_no_word_of_the_user_makes_these_run(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    with pytest.raises(UserError, match="trust a package of your own"):
        trust([package])
    monkeypatch.setenv(VARIABLE, package)
    for name in ("attendgen.sweeps.trial.run_process", "hydra.utils.call", "os.system", "builtins.eval"):
        assert not is_trusted(name)


@pytest.mark.parametrize(
    "name", ["attendgen.sweeps.trial.run_process", "torch.load", "lightning.Trainer.fit", "os.system"]
)
def test_no_message_asks_for_trust_in_a_library(name: str) -> None:
    told = refusal(require_trusted, {"model": {"_target_": name}}, "config.yaml")
    assert f"model._target_={name}" in told
    assert "--trust" not in told


OWN = """
from attendgen.layers.attention import GeneralAttention

class Mine(GeneralAttention):
    pass
"""


@pytest.mark.parametrize("how", ["option", "environment", "python"])
def test_a_trusted_package_is_used(
    runs: SharedRuns, attendgen: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "own_attention.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "own_attention" if how == "environment" else "")
    run = runs("toy_chat", "model/attention=general", "model.attention._target_=own_attention.Mine")
    if how == "python":
        model = load(run, trust=["own_attention"]).model
        assert type(model.decoder.attention).__name__ == "Mine"
        return
    trusted = ["--trust", "own_attention"] if how == "option" else []
    done = attendgen("generate", run, "tu vas bien ?", *trusted)
    assert done.code == 0, done.err


def test_weights_of_a_timm_encoder_come_from_timm_alone() -> None:
    pytest.importorskip("timm")
    from attendgen.models.encoders.timm import TimmEncoder

    for name in ("hf-hub:somebody/evil", "local-dir:/tmp/evil"):
        with pytest.raises(UserError, match=r"encoder\.name"):
            TimmEncoder(name, pretrained=True)
