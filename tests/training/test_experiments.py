"""Every experiment, and groups combined without one, train for two steps."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from attendgen.hydra_app.app import run_hydra
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from attendgen.utils.resources import get_conf_dir
from helpers import tiny_data
from helpers.checkpoints import read
from helpers.runs import SharedRuns

Train = Callable[..., Path]
EXPERIMENTS = sorted(path.stem for path in (get_conf_dir() / "experiment").glob("*.yaml"))
# others cover their data, their model and their task
SLOW = (
    "coco_hard",
    "coco_soft",
    "e2e",
    "flickr8k_multiscale",
    "multi30k_fr_en",
    "novels_textgenerate",
    "toy_chat_letters",
)


@pytest.mark.parametrize(
    "experiment", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in EXPERIMENTS]
)
def test_every_experiment_trains_for_two_steps(runs: SharedRuns, experiment: str) -> None:
    folder = runs(experiment)
    assert read(folder)["global_step"] == 2
    summary = json.loads((folder / "metrics_fit.json").read_text())
    monitor = yaml.safe_load((folder / "config.yaml").read_text())["monitor"]["metric"]
    assert summary[monitor] == summary[monitor], "the monitored score is a number"
    # best is a checkpoint that rebuilds the model from the file alone
    run, alone = Run.find(folder), Run.find(folder / "checkpoints" / "best.ckpt")
    assert run.family == alone.family
    for one, other in zip(run.load_model().parameters(), alone.load_model().parameters(), strict=True):
        assert torch.equal(one, other)


NO_EXPERIMENT = {
    "stateful language model": (
        ["data=text", "model=lm_lstm", "task=lm", "data.stateful=true"],
        ["model.hidden=8", "data.batch_size=4", "data.seq_len=24", "data.context_len=16"],
        ("language_model", "val/bits_per_character", "min"),
    ),
    "captioner": (
        ["data=shapes", "model=captioner", "task=captioning", "model/encoder=small_cnn"],
        ["model.hidden=8", "model.embedding_dim=8", "data.batch_size=4", *tiny_data.SMALL["shapes"]],
        ("captioner", "val/cider", "max"),
    ),
    "seq2seq": (
        ["data=pairs", "model=seq2seq", "task=seq2seq"],
        ["model.hidden=8"],
        ("seq2seq", "val/bleu", "max"),
    ),
}


@pytest.mark.parametrize(("groups", "small", "expected"), NO_EXPERIMENT.values(), ids=NO_EXPERIMENT)
def test_groups_combine_without_an_experiment(
    tmp_path: Path, groups: list[str], small: list[str], expected: tuple[str, str, str]
) -> None:
    data = [f"data.root={tiny_data.novels(tmp_path / 'novels')}"] if "data=text" in groups else []
    common = ["trainer=smoke", "steps=100", "callbacks.progress=null", f"paths.cache={tmp_path}/cache"]
    run_hydra([*groups, *common, *small, *data, f"paths.outputs={tmp_path}/outputs"])
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["custom"]
    (folder,) = (tmp_path / "outputs" / "custom").iterdir()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    family, metric, mode = expected
    assert (config["name"], config["family"]) == ("custom", family)
    assert config["monitor"] == {"metric": metric, "mode": mode}
    summary = json.loads((folder / "metrics_fit.json").read_text())
    assert summary["steps"] == 2
    assert isinstance(summary[metric], float)
    Run.find(folder).load_model()


QUICK = {("luong", "scaled_dot"), ("bahdanau", "general")}


@pytest.mark.parametrize(
    ("decoder", "attention"),
    [
        pytest.param(decoder, attention, marks=[] if (decoder, attention) in QUICK else [pytest.mark.slow])
        for decoder in ("bahdanau", "luong")
        for attention in ("dot", "scaled_dot", "general", "additive")
    ],
)
def test_decoder_and_attention_are_config_lines(train: Train, decoder: str, attention: str) -> None:
    choices = [f"model/decoder={decoder}", f"model/attention={attention}", "model.bidirectional=true", "model.layers=2"]
    if decoder == "luong":
        choices += ["model.decoder.input_feeding=false", "model.decoder.layers=2"]
    sizes = ["model.hidden=8", "model.encoder_hidden=4", "model.tied=true", "decoding.max_length=8"]
    folder = train("toy_chat", "trainer=smoke", "logger=none", *choices, *sizes)
    model = Run.find(folder).load_model()
    assert type(model.decoder).__name__ == f"{decoder.capitalize()}Decoder"
    kind = attention.removeprefix("scaled_").capitalize()
    assert type(model.decoder.attention).__name__ == f"{kind}Attention"


ESTIMATORS = [
    "moving_average_baseline",
    pytest.param("leave_one_out", marks=pytest.mark.slow),
    pytest.param("soft_baseline", marks=pytest.mark.slow),
    "straight_through_gumbel",
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_hard_attention_trains_by_every_estimator(runs: SharedRuns, estimator: str) -> None:
    settings = [
        f"task/estimator={estimator}",
        "model.inference_attention=argmax",
        "task.loss_reduction=per_token",
    ]
    folder = runs("flickr8k_hard", *settings)
    run = Run.find(folder)
    target = run.config.task.estimator._target_
    assert target.rpartition(".")[2].removesuffix("Estimator") == estimator.title().replace("_", "")
    if estimator == "moving_average_baseline":
        state = read(folder)["state_dict"]
        assert state["estimator.baseline"] > 0, "the average is saved with the weights"
    model = run.load_model()
    memory, state = model.encode(torch.randn(2, 9, model.encoder.dim))
    _, attended, _ = model.step(torch.tensor([1, 1]), state, memory)
    assert (attended.max(dim=-1).values == 1).all()


def test_training_starts_from_another_runs_weights(runs: SharedRuns, train: Train, tmp_path: Path) -> None:
    soft = runs("flickr8k_multiscale")
    hard = train("flickr8k_hard", "trainer=smoke", f"init_from={soft}", "task.optimizer.lr=0", name="hard")
    first, second = (Run.find(folder).load_model().state_dict() for folder in (soft, hard))
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name
    assert (soft / "vocabulary.json").read_text() == (hard / "vocabulary.json").read_text()
    with pytest.raises(UserError, match="weights of another model"):
        train("flickr8k_hard", "trainer=smoke", f"init_from={soft}", "model.hidden=9", name="other")
    with pytest.raises(UserError, match="nowhere"):
        train("flickr8k_hard", "trainer=smoke", "init_from=nowhere", name="none")
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("baseline", "attention"),
    [pytest.param("greedy", "soft", marks=pytest.mark.slow), ("leave_one_out", "sample")],
)
def test_self_critical_training_starts_from_a_run(
    runs: SharedRuns, train: Train, baseline: str, attention: str
) -> None:
    first = runs("flickr8k_multiscale")
    settings = [f"init_from={first}", f"task.baseline={baseline}", f"model.inference_attention={attention}", "seed=2"]
    folder = train("flickr8k_scst", "trainer=smoke", *settings)
    assert json.loads((folder / "metrics_fit.json").read_text())["steps"] == 2
    assert Run.find(folder).load_model().is_hard == (attention == "sample")


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("16-mixed", marks=pytest.mark.slow)])
def test_mixed_precision_trains_on_the_cpu(train: Train, precision: str) -> None:
    folder = train("toy_chat", "trainer=smoke", f"trainer.precision={precision}", "decoding.max_length=8")
    assert json.loads((folder / "metrics_fit.json").read_text())["steps"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "metric", "settings"),
    [
        ("toy_chat", "val/perplexity", ["epochs=200", "callbacks.early_stopping=null", "task.label_smoothing=0.3"]),
        ("novels", "val/bits_per_character", ["data.batch_size=64", "task.optimizer.lr=1e-3"]),
        ("novels_lstm", "val/bits_per_character", ["data.batch_size=16", "task.optimizer.lr=1e-3"]),
        ("flickr8k_soft", "val/perplexity", ["data.batch_size=1"]),
        ("flickr8k_hard", "val/perplexity", ["data.batch_size=1"]),
    ],
)
def test_bfloat16_scores_as_single_precision_does(
    train: Train, experiment: str, metric: str, settings: list[str]
) -> None:
    """After 200 steps, each of which had a finite loss: the run would have stopped."""
    common = ["steps=200", "callbacks.samples=null", f"monitor.metric={metric}", "monitor.mode=min", *settings]
    scores = []
    for precision in ("32-true", "bf16-mixed"):
        folder = train(experiment, *common, f"trainer.precision={precision}", name=precision)
        summary = json.loads((folder / "metrics_fit.json").read_text())
        assert summary["steps"] == 200
        scores.append(summary[metric])
    assert scores[1] == pytest.approx(scores[0], rel=0.01)
