"""A run of a stranger that is resumed writes and deletes in its own folder alone."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from attendgen.hydra_app.app import run_hydra
from attendgen.utils.errors import UserError
from helpers.runs import SharedRuns


@pytest.fixture
def run(runs: SharedRuns, tmp_path: Path) -> Path:
    """A copy of a run."""
    return shutil.copytree(runs("toy_chat"), tmp_path / "run")


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder of files that are not the run's."""
    (tmp_path / "others" / "deep").mkdir(parents=True)
    (tmp_path / "others" / "deep" / "thesis.txt").write_text("mine")
    (tmp_path / "others" / "metrics.csv").write_text("step,loss\n900,1\n")
    return tmp_path / "others"


CSV = "{_target_: lightning.pytorch.loggers.CSVLogger, name: '', version: '', save_dir: OTHERS}"
ELSEWHERE = {
    "callbacks.best.dirpath": {"callbacks": {"best": {"dirpath": "OTHERS"}}},
    "callbacks.last.folder": {"callbacks": {"last": {"folder": "OTHERS"}}},
    "logger.csv.save_dir": {"logger": {"csv": yaml.safe_load(CSV)}},
    "trainer.profiler.dirpath": {
        "trainer": {"profiler": {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "dirpath": "OTHERS"}}
    },
}


@pytest.mark.parametrize("field", ELSEWHERE)
def test_a_resumed_run_writes_in_its_own_folder(run: Path, others: Path, field: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in others.rglob("*")}
    change = yaml.safe_load(yaml.safe_dump(ELSEWHERE[field]).replace("OTHERS", str(others)))
    config = OmegaConf.merge(yaml.safe_load((run / "config.yaml").read_text()), change)
    (run / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(config)))
    with pytest.raises(UserError, match=f"{field}=.*not in the run's own folder"):
        run_hydra([f"resume={run}", "epochs=9"])
    assert {path: path.stat().st_mtime_ns for path in others.rglob("*")} == before


@pytest.mark.parametrize("name", ["deep", "../others/deep", "deep/thesis.txt"])
def test_a_resumed_run_deletes_no_files_of_others(run: Path, others: Path, name: str) -> None:
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = (state for state in last["callbacks"].values() if "dirpath" in state)
    state |= {"dirpath": str(run / "checkpoints"), "kth_best_model_path": str(others / name)}
    state["best_k_models"] = {str(others / name): torch.tensor(-1.0)}
    torch.save(last, run / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: names .* as a checkpoint of its own"):
        run_hydra([f"resume={run}", "epochs=9"])
    assert (others / "deep" / "thesis.txt").read_text() == "mine"


def test_a_resumed_run_writes_through_no_link(run: Path, tmp_path: Path) -> None:
    (run / "train.log").unlink()
    (run / "train.log").symlink_to(tmp_path / "profile")
    with pytest.raises(UserError, match=r"train\.log: a link"):
        run_hydra([f"resume={run}", "epochs=9"])
    assert not (tmp_path / "profile").exists()


def test_a_run_may_lie_in_the_folder_of_another(run: Path) -> None:
    """As all runs do whose folder `outputs` lies beside a run that was trained in the working directory."""
    folder = run / "outputs" / "new"
    run_hydra(["experiment=toy_chat", f"hydra.run.dir={folder}", "trainer=smoke", "decoding.max_length=4"])
    assert (folder / "checkpoints" / "last.ckpt").is_file()
