"""Parts of a user's own package work wherever AttendGen's do."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attendgen.config.trust import VARIABLE
from attendgen.decoding.config import DecodingConfig
from attendgen.evaluation.evaluate import evaluate
from attendgen.hydra_app.app import run_hydra
from attendgen.inference.image_captioner import ImageCaptioner
from attendgen.inference.load import load
from attendgen.inference.text_generator import TextGenerator
from attendgen.inference.translator import Translator
from attendgen.layers.attention import GeneralAttention
from attendgen.losses.score_function import LeaveOneOutEstimator
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.runs.run import Run
from attendgen.tasks.hard_attention import HardAttentionTask
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.resources import bundled_file
from helpers import tiny_data
from helpers.checkpoints import read
from helpers.errors import Command, assert_mistake, refusal
from helpers.own_package import NAME, forget_package, write_config, write_package

TrainOwn = Callable[..., Path]


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path, monkeypatch, trusted=True)
    (tmp_path / "conf").mkdir()


@pytest.fixture
def train_own(tmp_path: Path) -> TrainOwn:
    """Train with configs of the user's own folder."""

    def run(experiment: str, *overrides: str) -> Path:
        given = tiny_data.arguments(experiment, tmp_path, "trainer=smoke", "callbacks.samples=null", *overrides)
        if any(override.startswith("decoding=") for override in overrides):
            given = [argument for argument in given if not argument.startswith("decoding.max_length")]
        run_hydra(["--config-dir", f"{tmp_path}/conf", *given])
        return tmp_path / "run"

    return run


FAMILIES = {
    "toy_chat": ("OwnSeq2SeqTask", Translator),
    "novels_lstm": ("OwnLanguageModelTask", TextGenerator),
    "novels": ("OwnLanguageModelTask", TextGenerator),
    "flickr8k_soft": ("OwnCaptioningTask", ImageCaptioner),
}


def outputs(model: Any, tmp_path: Path, **options: Any) -> list[str]:
    if isinstance(model, ImageCaptioner):
        return model.caption(tiny_data.image(tmp_path / "x.png", "red"), **options)[0].tokens
    return model.generate("tu vas bien ?", **options)[0].tokens


@pytest.mark.parametrize("experiment", FAMILIES)
def test_decoding_of_ones_own_is_used_everywhere(tmp_path: Path, train_own: TrainOwn, experiment: str) -> None:
    write_config(tmp_path, "decoding", "repeat", "_target_: mypaper.Repeat\ntoken: 6\ntimes: 4\n")
    folder = train_own(experiment, "decoding=repeat")
    model = load(folder)
    tokens = (model.vocabulary.target if isinstance(model, Translator) else model.vocabulary).tokens
    options = {"max_length": 4} if isinstance(model, TextGenerator) else {}
    assert outputs(model, tmp_path, **options) == [tokens[6]] * 4
    with pytest.raises(UserError, match=r"decoding: mypaper\.Repeat has no setting 'beam_size'"):
        outputs(model, tmp_path, beam_size=2)
    if experiment == "toy_chat":
        evaluate(folder)
        written = set((folder / "outputs_val.txt").read_text().splitlines())
        assert written == {model.vocabulary.target.decode([6] * 4)}


def test_a_single_continuation_by_decoding_without_a_stream_is_printed(
    tmp_path: Path, train_own: TrainOwn, attendgen: Command
) -> None:
    write_config(tmp_path, "decoding", "repeat", "_target_: mypaper.Repeat\ntoken: 9\ntimes: 5\n")
    folder = train_own("novels_lstm", "decoding=repeat")
    token = Run.find(folder).vocabulary.tokens[9]
    done = attendgen("generate", folder, "It was", "--max-length", "5")
    assert done.code == 0, done.err
    assert done.out.endswith(token * 5 + "\n")


def test_generating_uses_the_decoding_of_the_task(train_own: TrainOwn, tmp_path: Path) -> None:
    run = Run.find(train_own("toy_chat"))
    run.config = run.override(["task.decoding.max_length=2"])
    assert len(outputs(load(run), tmp_path)) <= 2


@pytest.mark.parametrize(
    "experiment", [pytest.param(name, marks=[pytest.mark.slow] if name == "novels" else []) for name in FAMILIES]
)
def test_a_derived_task_is_served_as_its_family(train_own: TrainOwn, tmp_path: Path, experiment: str) -> None:
    task, kind = FAMILIES[experiment]
    folder = train_own(experiment, f"task._target_=mypaper.{task}")
    assert yaml.safe_load((folder / "config.yaml").read_text())["task"]["_target_"] == f"mypaper.{task}"
    model = load(folder)
    assert isinstance(model, kind)
    outputs(model, tmp_path)


@pytest.mark.parametrize("family", ["other", None])
def test_an_unknown_family_is_one_line(train_own: TrainOwn, family: str | None) -> None:
    run = Run.find(train_own("toy_chat", "decoding.max_length=4"))
    run.config.family = family
    message = "family=other: unknown" if family else "field 'family' is missing"
    assert message in refusal(load, run)


def test_a_task_or_data_of_another_base_is_one_line(train_own: TrainOwn) -> None:
    told = refusal(train_own, "toy_chat", "task._target_=mypaper.NotATask")
    assert told == "task: NotATask; expected a class derived from attendgen.tasks.BaseTask"
    told = refusal(train_own, "toy_chat", "data._target_=mypaper.NotATask")
    assert told == "data: NotATask; expected a class derived from attendgen.data.BaseDataModule"


def test_parameters_of_an_estimator_are_trained_and_saved(train_own: TrainOwn, tmp_path: Path) -> None:
    write_config(tmp_path, "task/estimator", "learned", "_target_: mypaper.LearnedBaseline\n")
    folder = train_own("flickr8k_hard", "task/estimator=learned")
    assert read(folder)["state_dict"]["estimator.level"] != 0
    assert "estimator.level" in read(folder, "best")["state_dict"]
    summary = json.loads((folder / "metrics_fit.json").read_text())
    model = load(folder).model
    assert summary["trained_parameters"] == 1 + sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_parameters_of_a_derived_task_are_trained(train_own: TrainOwn) -> None:
    folder = train_own("toy_chat", "task._target_=mypaper.OwnSeq2SeqTask", "decoding.max_length=4")
    assert read(folder)["state_dict"]["scale"] != 1


class Sharp(torch.nn.Module):
    """A sampler with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = torch.nn.Parameter(torch.ones(()))

    def forward(self, alpha: torch.Tensor) -> torch.Tensor:
        return (alpha / self.temperature).softmax(dim=-1)


def test_parameters_within_a_plain_estimator_are_trained() -> None:
    model = Captioner(7, SmallCNN((4,), size=8), partial(GeneralAttention), embedding_dim=6, hidden=7)
    estimator = LeaveOneOutEstimator(Sharp())
    vocabulary = Vocabulary(["a"], "caption")
    task = HardAttentionTask(
        model, vocabulary, torch.optim.Adam, lambda step: 1.0, DecodingConfig(), estimator=estimator
    )
    groups: Any = task.configure_optimizers()
    trained = {id(parameter) for group in groups["optimizer"].param_groups for parameter in group["params"]}
    assert id(estimator.sampler.temperature) in trained
    assert id(model.output.weight) in trained
    assert any(name.startswith("estimator_sampler") for name in task.state_dict())


# by group: the base option with AttendGen's part replaced by the package's
OWN = {
    "data": ("pairs", "_target_: mypaper.OwnData\nlongest: 20\n"),
    "model": ("seq2seq", "_target_: mypaper.OwnModel\nstart: 1.5\n"),
    "task": ("seq2seq", "_target_: mypaper.OwnSeq2SeqTask\nweight: 1.25\n"),
}


def test_data_model_and_task_of_ones_own_go_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attendgen: Command
) -> None:
    """Train, evaluate, resume and generate, with the package trusted on the command line."""
    monkeypatch.setenv(VARIABLE, "")
    for group, (base, text) in OWN.items():
        write_config(tmp_path, group, "own", f"defaults: [{base}, _self_]\n{text}")
    short = ["trainer=smoke", "callbacks.progress=null", "callbacks.samples=null"]
    sizes = ["model.hidden=8", "model.embedding_dim=8", "decoding.max_length=6", "data.batch_size=4"]
    folder = tmp_path / "run"
    own = ["--config-dir", tmp_path / "conf", "data=own", "model=own", "task=own", f"hydra.run.dir='{folder}'"]
    done = attendgen("train", *own, *short, *sizes)  # a config that the user writes needs no word of trust
    assert done.code == 0, done.err
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert [config[group]["_target_"] for group in OWN] == [text.split()[1] for _, text in OWN.values()]
    assert (config["family"], config["monitor"]["metric"]) == ("seq2seq", "val/exact_match")
    state = read(folder)["state_dict"]
    assert state["model.gain"] != 1.5
    assert state["scale"] != 1.25

    def told_to_trust(*arguments: str | Path) -> None:
        """The command refuses a stranger's run, and works when the package is trusted."""
        forget_package(tmp_path, monkeypatch)
        assert_mistake(attendgen(*arguments), "_target_=mypaper.", f"--trust {NAME}")
        done = attendgen(*arguments, "--trust", NAME)
        assert done.code == 0, done.err

    told_to_trust("evaluate", folder)
    sources = [line.split("\t")[0] for line in Path(bundled_file("toy_chat.tsv")).read_text("utf-8").splitlines()]
    short_sources = [source for source in sources if len(source) <= 20]
    assert 4 < len(short_sources) < len(sources)
    assert len((folder / "outputs_val.txt").read_text().splitlines()) == len(short_sources)
    told_to_trust("generate", folder, "tu vas bien ?")
    told_to_trust("train", f"resume={folder}", "trainer.max_steps=4", "trainer.max_epochs=4")
    assert read(folder)["global_step"] == 4
    assert read(folder)["state_dict"]["model.gain"] != state["model.gain"]
    model = load(folder)
    assert isinstance(model, Translator)
    assert type(model.model).__name__ == "OwnModel"


@pytest.mark.slow
def test_a_captioner_and_its_task_of_ones_own_go_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_own: TrainOwn, attendgen: Command
) -> None:
    write_config(tmp_path, "model", "own", "defaults: [captioner, _self_]\n_target_: mypaper.OwnCaptioner\n")
    write_config(tmp_path, "task", "own", "defaults: [captioning, _self_]\n_target_: mypaper.OwnCaptioningTask\n")
    folder = train_own("flickr8k_soft", "model=own", "task=own", "+task.focal=0.5")
    scalars = set(EventAccumulator(str(folder / "tensorboard")).Reload().Tags()["scalars"])
    assert {"train/own", "val/bleu4"} <= scalars
    forget_package(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)  # where attention maps are written
    image = tiny_data.image(tmp_path / "x.png", "red")
    assert_mistake(attendgen("caption", folder, image), f"--trust {NAME}")
    for arguments in (("evaluate", folder), ("caption", folder, image), ("train", f"resume={folder}")):
        done = attendgen(*arguments, "--trust", NAME)
        assert done.code == 0, done.err
    assert json.loads((folder / "metrics_val.json").read_text())["bleu4"] >= 0
    assert (load(folder).run.config.task.focal, type(load(folder).model).__name__) == (0.5, "OwnCaptioner")
