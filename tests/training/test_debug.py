"""Short trainings that look for mistakes, each composed by `debug=NAME` and run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from attendgen.config.resolvers import register_resolvers
from attendgen.tasks.seq2seq import Seq2SeqTask
from attendgen.utils.resources import get_conf_dir

Train = Callable[..., Path]
QUICK = ("callbacks.samples=null", "decoding.max_length=3")
NAMES = sorted(path.stem for path in (get_conf_dir() / "debug").glob("*.yaml"))


def steps_of(folder: Path) -> int:
    return json.loads((folder / "metrics_fit.json").read_text())["steps"]


def composed(*choices: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
        return compose("train", [*choices])


@pytest.mark.parametrize("experiment", ["toy_chat", "novels", "flickr8k_soft"])
@pytest.mark.parametrize("name", NAMES)
def test_debugging_changes_no_part_of_a_model_or_its_data(name: str, experiment: str) -> None:
    plain, debug = composed(f"experiment={experiment}"), composed(f"experiment={experiment}", f"debug={name}")
    for group in ("model", "data"):
        assert debug[group] == plain[group]
    assert debug.trainer != plain.trainer


def test_overfitting_sees_the_same_few_batches_in_every_epoch(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    predict = Seq2SeqTask.predict_training

    def record(task: Seq2SeqTask, batch: Any) -> Any:
        seen.append(batch.index.tolist())
        return predict(task, batch)

    monkeypatch.setattr(Seq2SeqTask, "predict_training", record)
    train("toy_chat", "debug=overfit", "epochs=3", "trainer.check_val_every_n_epoch=3", "logger=none", *QUICK)
    assert len(seen) == 9
    assert seen[:3] == seen[3:6] == seen[6:]


def test_a_fast_run_takes_one_step_and_keeps_no_log(train: Train) -> None:
    folder = train("toy_chat", "debug=fdr", *QUICK)
    assert steps_of(folder) == 1
    assert not (folder / "tensorboard").exists()
    assert not (folder / "checkpoints" / "best.ckpt").exists()


def test_a_limited_run_validates_after_a_few_batches(train: Train) -> None:
    folder = train("toy_chat", "debug=limit", "trainer.limit_train_batches=2", *QUICK)
    assert steps_of(folder) == 2
    assert (folder / "checkpoints" / "best.ckpt").is_file()


def test_the_profiler_reports_where_time_goes(train: Train) -> None:
    folder = train("toy_chat", "debug=profiler", "logger=none", *QUICK)
    (report,) = (folder / "profiler").glob("*.txt")
    assert "training_step" in report.read_text()
