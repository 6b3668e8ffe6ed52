"""Wrong settings and wrong data: one line, and no run directory."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attendgen.hydra_app.app import run_hydra
from attendgen.utils.errors import UserError
from helpers.errors import refusal
from helpers.runs import SharedRuns

Train = Callable[..., Path]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("experiment=nope", "Could not find 'experiment/nope'"),
        ("trainer.max_epohcs=3", "max_epohcs"),
        ("model.hiden=3", "model.hiden: no such field; did you mean model.hidden?"),
        ("epochz=3", "epochz: no such field; did you mean epochs?"),
        ("model.hidden=abc", "model.hidden=abc: expected a whole number from 1"),
        ("model.hidden=0", "model.hidden=0: expected a whole number from 1"),
        ("epochs=0", "epochs=0: expected a number from 1"),
        ("trainer.devices=0", "trainer.devices=0: expected a number from 1"),
        ("trainer.share=1.5", "trainer.share=1.5: expected a number above 0, up to 1"),
        ("data.eval_batch_size=0", "data.eval_batch_size=0: expected a whole number from 1"),
        ("name=[1", "name=[1: "),
        ("data.level=syllables", "syllables"),
        ("data.source_normalizer=odd", "normalizer=odd: unknown"),
        ("epochs=many", "many"),
        ("nonsense", "nonsense"),
        ("ablation=null", "ablation=null: a group cannot be set to null"),
        ("resume=nowhere", "nowhere: no such run"),
        ("decoding.beam_size=0", "decoding.beam_size=0"),
        ("decoding.temperature=-0.5", "decoding.temperature=-0.5"),
        ("trainer.profiler=fast", "trainer.profiler=fast"),
        ("threads=0", "threads=0: expected a whole number from 1"),
        ("threads=many", "threads=many: expected a whole number from 1"),
        ("threads=99999", "threads=99999: expected a whole number from 1 to 1024"),
        ("data.shared_vocabulary=maybe", "data.shared_vocabulary=maybe: expected true or false"),
        ("hydra.run.dir=", "hydra.run.dir: empty"),
        ("=5", "train: Config group override"),
        ("data.encoding=punycode", "not punycode"),
        ("model.hidden=-1", "model.hidden=-1: "),
        ("init_from=novels", "init_from=novels: a language_model, whose vocabulary does not fit"),
        ("model.dropout=1.5", "model.dropout=1.5: expected a probability from 0 to 1"),
        ("model.attention=dot", "choose one of its configs with model/attention=dot"),
        ("task.label_smoothing={a: 1}", "task: "),
        ("task.label_smoothing=2.0", "task.label_smoothing=2.0: expected a number from 0 to below 1"),
        ("task.optimizer.lr=-1", "task.optimizer.lr=-1: expected a number from 0"),
        ("task/schedule=warmup_cosine", "task.schedule.steps=-1: a cosine needs to know its length; set steps=N"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path: Path, argument: str, message: str) -> None:
    told = refusal(run_hydra, ["experiment=toy_chat", f"hydra.run.dir={tmp_path / 'run'}", "trainer=smoke", argument])
    assert message in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["monitor.metric=val/nothing"], "val/nothing"),
        (["seed=-1"], "seed=-1"),
        (["data.batch_size=0"], "data.batch_size=0"),
        (["--bogus"], "--bogus"),
        (["trainer=gpu"], "there is no GPU here; use trainer=cpu"),
        (["trainer.compile=true"], "trainer.compile=true: needs a GPU; use trainer=gpu"),
        (["steps=0"], "steps=0: expected a number from 1"),
    ],
)
def test_a_setting_that_only_the_trainer_can_refuse(train: Train, overrides: list[str], message: str) -> None:
    if "no GPU" in message and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    told = refusal(train, "toy_chat", "epochs=1", "validate_every=1", "decoding.max_length=4", *overrides)
    assert message.lower() in told.lower()


def test_a_mistake_is_told_once(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    refusal(train, "toy_chat", "data.batch_size=0")
    assert "Error executing job" not in capfd.readouterr().err


def test_wrong_data_leaves_no_run_directory(train: Train, tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(UserError, match=r"empty\.tsv: no sentence pairs"):
        train("toy_chat", f"data.train={tmp_path}/empty.tsv")
    assert not (tmp_path / "run").exists()


def test_a_failed_start_does_not_delete_other_files(train: Train, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError):
        train("toy_chat", "data.train=nowhere.tsv")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_run_is_not_overwritten(runs: SharedRuns) -> None:
    folder = runs("toy_chat")
    before = (folder / "checkpoints/last.ckpt").read_bytes()
    with pytest.raises(UserError, match="holds a run already"):
        run_hydra(["experiment=toy_chat", f"hydra.run.dir='{folder}'", "trainer=smoke", "seed=5"])
    assert (folder / "checkpoints/last.ckpt").read_bytes() == before
