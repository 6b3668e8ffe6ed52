"""Parts of a user's own package take part wherever AttendGen's do: nothing is swapped or left out in silence."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from attendgen.cli.app import main
from attendgen.config.trust import VARIABLE
from attendgen.decoding.config import DecodingConfig
from attendgen.evaluation.evaluate import evaluate
from attendgen.inference.image_captioner import ImageCaptioner
from attendgen.inference.load import load
from attendgen.inference.text_generator import TextGenerator
from attendgen.inference.translator import Translator
from attendgen.layers.attention import GeneralAttention
from attendgen.losses.score_function import LeaveOneOutEstimator
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.runs.run import Run
from attendgen.tasks.captioning import CaptioningTask
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError
from helpers import tiny_data

PACKAGE = '''
import torch
from torch import nn

from attendgen.decoding.protocol import Decoded
from attendgen.decoding.config import DecodingConfig
from attendgen.losses.reinforce import reinforce, cost_to_go
from attendgen.layers.selection import sampled
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.lm import LanguageModelTask
from attendgen.tasks.seq2seq import Seq2SeqTask


class Repeat:
    """Not derived from AttendGen's: writes one token so many times."""

    def __init__(self, token=5, times=3, max_length=30):
        self.token, self.times, self.max_length = token, times, max_length

    def __call__(self, model, memory, state, forbidden, prefix=None, eos_id=None):
        rows, times = len(state[0]), min(self.times, self.max_length)
        _, alpha, _ = model.step(torch.full((rows,), self.token), state, memory)
        zeros = torch.zeros(rows, 1, times)
        attention = alpha.view(rows, 1, 1, -1).expand(-1, -1, times, -1)
        return Decoded(torch.full((rows, 1, times), self.token), zeros[:, :, 0], zeros, attention)


class Short(Search):
    """Derived from AttendGen's, with a setting of its own."""

    def __init__(self, cut=2, **settings):
        super().__init__(**{**settings, "max_length": cut})


class OwnSeq2Seq(Seq2SeqTask):
    def __init__(self, *args, weight=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(torch.tensor(weight))

    def training_step(self, batch, batch_index):
        return self.scale.square() * super().training_step(batch, batch_index)


class OwnLM(LanguageModelTask):
    pass


class OwnCaptioning(CaptioningTask):
    pass


class Apart:
    pass


class Learned(nn.Module):
    """A score-function estimator whose baseline is learnt."""

    select = staticmethod(sampled)
    paths, soft, entropy = 2, False, 0.0

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, nats, log_alpha, mask, soft=None):
        error = ((cost_to_go(nats).detach() - self.level) * mask.unsqueeze(1)).square().mean()
        return reinforce(cost_to_go(nats), self.level.detach() * mask.unsqueeze(1), log_alpha) + error
'''


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "mypaper.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setenv(VARIABLE, "mypaper")
    sys.modules.pop("mypaper", None)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    def run(experiment: str, *overrides: str) -> Path:
        return tiny.Runs(tmp_path, {"run": [experiment, *overrides]})("run")

    return run


FAMILIES = {
    "toy_chat": ("OwnSeq2Seq", Translator),
    "novels_lstm": ("OwnLM", TextGenerator),
    "novels": ("OwnLM", TextGenerator),
    "flickr8k_soft": ("OwnCaptioning", ImageCaptioner),
}


def outputs(model, tmp_path: Path, **options) -> list[str]:
    if isinstance(model, ImageCaptioner):
        return model.caption(tiny_data.image(tmp_path / "x.png", "red"), **options)[0].tokens
    return model.generate("tu vas bien ?", **options)[0].tokens


@pytest.mark.parametrize("experiment", FAMILIES)
def test_a_search_of_ones_own_decodes_everywhere(tmp_path: Path, experiment: str) -> None:
    write_config(tmp_path, "decoding", "repeat", "_target_: mypaper.Repeat\ntoken: 6\ntimes: 4\n")
    folder = train_with_folder(tmp_path, experiment, "decoding=repeat", "callbacks.samples=null")
    model = load(folder)
    symbols = (model.vocabulary.target if isinstance(model, Translator) else model.vocabulary).tokens
    options = {"max_length": 4} if isinstance(model, TextGenerator) else {}
    assert outputs(model, tmp_path, **options) == [symbols[6]] * 4
    with pytest.raises(UserError, match=r"decoding: mypaper\.Repeat has no setting 'beam'"):
        outputs(model, tmp_path, beam_size=2)
    if experiment == "toy_chat":
        evaluate(Run.find(folder), Run.find(folder).config)
        written = set((folder / "outputs_val.txt").read_text().splitlines())
        assert written == {model.vocabulary.target.decode([6] * 4)}


def test_a_derived_search_keeps_its_own_settings(tmp_path: Path) -> None:
    write_config(tmp_path, "decoding", "short", "_target_: mypaper.Short\ncut: 3\n")
    model = load(train_with_folder(tmp_path, "toy_chat", "decoding=short"))
    assert len(outputs(model, tmp_path)) <= 3
    assert len(outputs(model, tmp_path, cut=1)) == 1
    assert len(outputs(model, tmp_path, beam_size=3, cut=2)) <= 2


def test_a_single_continuation_by_a_search_that_cannot_be_watched_is_printed(
    tmp_path: Path, monkeypatch, capfd
) -> None:
    write_config(tmp_path, "decoding", "repeat", "_target_: mypaper.Repeat\ntoken: 9\ntimes: 5\n")
    folder = train_with_folder(tmp_path, "novels_lstm", "decoding=repeat", "callbacks.samples=null")
    symbol = Run.find(folder).vocabulary.tokens[9]
    capfd.readouterr()
    monkeypatch.setattr(sys, "argv", ["attendgen", "generate", str(folder), "It was", "--max-length", "5"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code in (0, None)
    assert capfd.readouterr().out == symbol * 5 + "\n"


def test_generate_uses_the_search_of_the_task(train, tmp_path: Path) -> None:
    folder = train("toy_chat")
    config = Run.find(folder).override(["task.decoding.max_length=2"])
    run = Run.find(folder)
    run.config = config
    assert len(outputs(load(run), tmp_path)) <= 2


@pytest.mark.parametrize("experiment", FAMILIES)
def test_a_derived_task_is_served_as_its_family(train, tmp_path: Path, experiment: str) -> None:
    task, kind = FAMILIES[experiment]
    model = load(train(experiment, f"task._target_=mypaper.{task}"))
    assert isinstance(model, kind)
    assert type(model.task).__name__ == task
    outputs(model, tmp_path)


def test_a_task_of_no_family_is_one_line(train) -> None:
    run = Run.find(train("toy_chat", "task._target_=mypaper.OwnSeq2Seq"))
    run.build = lambda: torch.nn.Module()  # type: ignore[method-assign,assignment]
    with pytest.raises(UserError, match="is derived from none of Seq2SeqTask"):
        load(run)


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def test_parameters_of_an_estimator_are_trained_and_resumed(train, tmp_path: Path) -> None:
    write_config(tmp_path, "task/estimator", "learned", "_target_: mypaper.Learned\n")
    folder = train_with_folder(tmp_path, "flickr8k_hard", "task/estimator=learned")
    assert weights(folder)["estimator.level"] != 0
    assert load(folder).task.estimator.level == weights(folder, "best")["estimator.level"]
    summary = json.loads((folder / "metrics_fit.json").read_text())
    model = load(folder).task.model
    assert summary["trained_parameters"] == 1 + sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_parameters_of_a_derived_task_are_trained(train) -> None:
    assert weights(train("toy_chat", "task._target_=mypaper.OwnSeq2Seq"))["scale"] != 1


class Sharp(torch.nn.Module):
    """A selection with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = torch.nn.Parameter(torch.ones(()))

    def forward(self, alpha: torch.Tensor) -> torch.Tensor:
        return (alpha / self.temperature).softmax(dim=-1)


def test_parameters_within_a_plain_estimator_are_trained() -> None:
    model = Captioner(7, SmallCNN((4,), size=8), partial(GeneralAttention), embedding_dim=6, hidden=7)
    estimator = LeaveOneOutEstimator(Sharp())
    task = CaptioningTask(
        model, Vocabulary(["a"], "caption"), torch.optim.Adam, lambda step: 1.0, DecodingConfig(), estimator=estimator
    )
    groups = task.configure_optimizers()["optimizer"].param_groups
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert id(estimator.sampler.temperature) in trained
    assert id(model.output.weight) in trained
    assert any(name.startswith("estimator_select") for name in task.state_dict())


def test_the_best_checkpoint_of_a_resumed_run_has_its_own_settings(tmp_path: Path, capfd) -> None:
    from attendgen.hydra_app.app import run_hydra

    settings = ["epochs=2", "validate_every=1", "model/attention=scaled_dot", "task.optimizer.lr=0.02"]
    run_hydra(tiny_data.arguments("toy_chat", tmp_path, *settings))
    folder = tmp_path / "run"
    best = (folder / "checkpoints" / "best.ckpt").read_bytes()
    changes = ["model.attention.scaled=false", "model.dropout=0.3", "task.optimizer.lr=0.0", "data.batch_size=7"]
    run_hydra([f"resume={folder}", "epochs=3", *changes])
    (folder / "checkpoints" / "best.ckpt").write_bytes(best)  # it would be another one, had the score risen
    run, alone = Run.find(folder), Run.find(folder / "checkpoints" / "best.ckpt")
    assert run.config.model == alone.config.model
    assert (run.config.model.attention.scaled, run.config.model.dropout) == (True, 0.0)
    assert run.config.data.batch_size == 7, "what the weights do not depend on is as it was last"
    scores = [evaluate(one, one.config, out=tmp_path) for one in (run, alone)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert "trained with other settings than config.yaml's" in capfd.readouterr().err
    assert Run.find(folder).override(["model.dropout=0.1"]).model.dropout == 0.1
    assert Run.find(folder, trained=False).config.model.dropout == 0.3, "resuming goes on with the last settings"


def write_config(tmp_path: Path, group: str, name: str, text: str) -> None:
    (tmp_path / "conf" / group).mkdir(parents=True, exist_ok=True)
    (tmp_path / "conf" / group / f"{name}.yaml").write_text(text)


def train_with_folder(tmp_path: Path, experiment: str, *overrides: str) -> Path:
    """A run with configs of the user's own folder."""
    from attendgen.hydra_app.app import run_hydra

    given = tiny_data.arguments(experiment, tmp_path, "trainer=smoke", *overrides)
    given = [argument for argument in given if not argument.startswith("decoding.max_length")]
    run_hydra(["--config-dir", f"{tmp_path}/conf", *given])
    return tmp_path / "run"
