"""Every experiment parses and survives two steps; run directories; resuming."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import lightning
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attendgen.hydra_app.app import run_hydra
from attendgen.runs.run import Run
from attendgen.utils.errors import DivergedError, Interrupted, UserError
from attendgen.utils.resources import conf_dir
from helpers import tiny_data

FILE = "environment.json"
EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))


@pytest.fixture
def train(tmp_path: Path):
    """Train an experiment on tiny data in `tmp_path/name`; returns the run directory."""

    def run(experiment: str, *overrides: str, name: str = "run") -> Path:
        run_hydra(tiny_data.arguments(experiment, tmp_path, *overrides, name=name))
        return tmp_path / name

    return run


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "coco_hard" else []) for name in EXPERIMENTS],
)
def test_every_experiment_survives_two_steps(train, experiment: str) -> None:
    folder = train(experiment, "trainer=smoke")
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    summary = json.loads((folder / "metrics_fit.json").read_text())
    monitor = yaml.safe_load((folder / "config.yaml").read_text())["monitor"]["metric"]
    assert summary[monitor] == summary[monitor], "the monitored score is a number"
    # best is a checkpoint that rebuilds the model from the file alone
    best = folder / "checkpoints" / "best.ckpt"
    task, alone = Run.find(folder).build(), Run.find(best).build()
    for one, other in zip(task.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("decoder", ["bahdanau", "luong"])
@pytest.mark.parametrize("attention", ["dot", "scaled_dot", "general", "additive"])
def test_decoder_and_attention_are_config_lines(train, decoder: str, attention: str) -> None:
    choices = [f"model/decoder={decoder}", f"model/attention={attention}", "model.bidirectional=true", "model.layers=2"]
    if decoder == "luong":
        choices += ["model.decoder.feeding=false", "model.decoder.layers=2"]
    sizes = ["model.hidden=8", "model.encoder_hidden=4", "model.tied=true"]
    folder = train("toy_chat", "trainer=smoke", "logger=none", *choices, *sizes)
    model = Run.find(folder).load_model()
    assert type(model.decoder).__name__.lower() == decoder
    assert type(model.decoder.attention).__name__ == {"scaled_dot": "Dot"}.get(attention, attention.capitalize())


@pytest.mark.parametrize("estimator", ["moving_baseline", "leave_one_out", "soft_baseline", "gumbel"])
def test_hard_attention_trains_by_every_estimator(train, estimator: str) -> None:
    settings = [
        "trainer=smoke",
        f"task/estimator={estimator}",
        "model.inference_attention=argmax",
        "task.loss_reduction=per_token",
    ]
    folder = train("flickr8k_hard", *settings)
    run = Run.find(folder)
    task = run.build()
    assert type(task.estimator).__name__.lower() in (estimator.replace("_", ""), "pathwise")
    if estimator == "moving_baseline":
        assert task.estimator.baseline > 0, "the average is saved with the weights"
    annotations = torch.randn(2, 9, task.model.encoder.dim)
    memory, state = task.model.encode(annotations)
    _, looked, _ = task.model.step(torch.tensor([1, 1]), state, memory)
    assert (looked.max(dim=-1).values == 1).all()


def test_training_starts_from_another_runs_weights(train, tmp_path: Path) -> None:
    soft = train("flickr8k_multiscale", "trainer=smoke", name="soft")
    hard = train("flickr8k_hard", "trainer=smoke", f"init_from={soft}", "task.optimizer.lr=0", name="hard")
    first, second = (Run.find(folder).load_model().state_dict() for folder in (soft, hard))
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name
    assert (soft / "vocabulary.json").read_text() == (hard / "vocabulary.json").read_text()
    with pytest.raises(UserError, match="weights of another model"):
        train("flickr8k_hard", "trainer=smoke", f"init_from={soft}", "model.hidden=9", name="other")
    with pytest.raises(UserError, match="nowhere"):
        train("flickr8k_hard", "trainer=smoke", "init=nowhere", name="none")
    assert {path.name for path in tmp_path.iterdir()} >= {"soft", "hard"}
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("baseline", "look"),
    [pytest.param("greedy", "expected", marks=pytest.mark.slow), ("leave_one_out", "sampled")],
)
def test_self_critical_training_starts_from_a_run(train, baseline: str, look: str) -> None:
    first = train("flickr8k_multiscale", "trainer=smoke", name="first")
    settings = [
        f"init_from={first}",
        f"task.self_critical.baseline={baseline}",
        f"model.inference_attention={look}",
        "seed=2",
    ]
    folder = train("flickr8k_scst", "trainer=smoke", *settings)
    assert json.loads((folder / "metrics_fit.json").read_text())["steps"] == 2
    assert Run.find(folder).load_model().hard == (look == "sampled")


def test_a_run_directory_holds_what_the_design_lists(train) -> None:
    folder = train("toy_chat", "trainer=smoke")
    for name in (
        "config.yaml",
        "vocabulary.json",
        "environment.json",
        ".hydra/overrides.yaml",
        "checkpoints/best.ckpt",
    ):
        assert (folder / name).is_file(), name
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert environment["command"][:2] == ["attendgen", "train"]
    assert "trainer=smoke" in environment["command"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=conf_dir(), capture_output=True, text=True, check=False)
    assert environment["commit"] == (head.stdout.strip() or None)
    assert environment["device"]
    config = (folder / "config.yaml").read_text()
    assert "search: ${decoding}" in config, "references to other fields stay"
    assert not re.search(r"\$\{\w+:", config), "all else is resolved"


def test_a_run_has_the_threads_that_its_config_names(train) -> None:
    before = torch.get_num_threads()
    for name, count in (("one", 1), ("three", 3)):
        environment = json.loads((train("toy_chat", "trainer=smoke", f"threads={count}", name=name) / FILE).read_text())
        assert environment["threads"] == count
        assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("given", "policy"),
    [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active"), ({"GOMP_SPINCOUNT": "1000"}, None)],
)
def test_openmp_waits_passively_unless_the_user_says_otherwise(given: dict[str, str], policy: str | None) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    variables = {name: value for name, value in os.environ.items() if name not in names}
    code = "import attendgen, os, sys; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**variables, **given}, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(policy), "False"]


def test_tensorboard_holds_losses_scores_samples_and_maps(train) -> None:
    folder = train("toy_chat", "trainer=smoke")
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/gradient_norm", "val/exact_match", "val/bleu", "memory/process_gib"} <= scalars
    assert any("learning_rate" in name for name in scalars)
    assert "attention/0" in events.Tags()["images"]
    assert "samples/text_summary" in events.Tags()["tensors"]


@pytest.mark.parametrize(
    ("profiler", "word"), [("simple", "training_step"), ("advanced", "training_step"), ("pytorch", "aten::")]
)
def test_a_profiler_writes_into_the_run_directory(train, profiler: str, word: str) -> None:
    short = ["decoding.max_length=3", "callbacks.samples=null", "logger=none"]
    folder = train("toy_chat", "trainer=smoke", f"trainer.profiler={profiler}", *short)
    reports = [path.read_text() for path in (folder / "profiler").glob(f"*{profiler}*.txt")]
    assert any(word in report for report in reports)


@pytest.mark.parametrize(("experiment", "settings"), [("novels_lstm", ["model.attention_window=8"])])
def test_tensorboard_shows_a_streams_continuation_and_where_it_looked(train, experiment, settings) -> None:
    folder = train(experiment, "trainer=smoke", *settings)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"train/loss", "val/bits_per_character"} <= set(events.Tags()["scalars"])
    assert "attention/0" in events.Tags()["images"]
    (shown,) = events.Tensors("samples/text_summary")[-1].tensor_proto.string_val
    assert shown.decode().count(" → ") == 4


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(train) -> None:
    runs = [train("toy_chat", "trainer=smoke", f"seed={seed}", name=f"run{i}") for i, seed in enumerate((1, 1, 2))]
    one, same, other = (Run.find(folder).build().state_dict() for folder in runs)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


class Killed(BaseException):
    """Stands for a SIGKILL: nothing gets to run after it."""


@pytest.fixture
def kill_at(monkeypatch):
    """Make training die within the step after so many steps; None lets it live."""

    def at(step: int | None) -> None:
        def die(_: object, trainer: lightning.Trainer, *rest: object) -> None:
            if trainer.global_step == step:
                raise Killed

        monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm.on_before_optimizer_step", die)

    return at


def assert_same(one: object, other: object, where: str = "") -> None:
    """Two checkpoints' contents are the same, bit for bit."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}/{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other or "dir" in where or "path" in where, where


CONTINUED = ["+trainer.limit_val_batches=1", "callbacks.last.minutes=0", "callbacks.samples=null"]


@pytest.mark.parametrize(
    ("experiment", "settings"),
    [
        pytest.param("toy_chat", ["epochs=4", "model.dropout=0.2", "validate_every=2"], marks=pytest.mark.slow),
        ("toy_chat", ["epochs=4", "model.dropout=0.2", "callbacks=ema", "trainer.accumulate_grad_batches=2"]),
        ("novels_lstm", ["steps=9", "model.dropout=0.2", "data.batch_size=128"]),
        pytest.param("novels", ["steps=9", "model.dropout=0.2", "data.batch_size=128"], marks=pytest.mark.slow),
        pytest.param("flickr8k_soft", ["steps=9", "data.batch_size=1"], marks=pytest.mark.slow),
        pytest.param(
            "flickr8k_hard", ["steps=9", "data.batch_size=1", "task/estimator=leave_one_out"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_killed_run_ends_where_an_uninterrupted_one_does(train, kill_at, experiment, settings) -> None:
    """Bit for bit: weights, optimizer, schedule, best score; killed before, after and beyond the end of an epoch."""
    kill_at(None)
    straight = train(experiment, *settings, *CONTINUED, name="straight")
    wanted = torch.load(straight / "checkpoints/last.ckpt", weights_only=True)
    a_epoch = -(-wanted["global_step"] // (wanted["epoch"] + 1))
    for step in sorted({a_epoch - 1, a_epoch, a_epoch + 1}):
        kill_at(step)
        with pytest.raises(Killed):
            train(experiment, *settings, *CONTINUED, name=f"halted{step}")
        kill_at(None)
        halted = straight.with_name(f"halted{step}")
        run_hydra([f"resume={halted}"])
        found = torch.load(halted / "checkpoints/last.ckpt", weights_only=True)
        for part in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers"):
            assert_same(wanted[part], found[part], f"{step}/{part}")
        for part in ("current_model_state", "averaging_state"):
            assert_same(wanted.get(part), found.get(part), f"{step}/{part}")
        best = [Run.find(folder).build().state_dict() for folder in (straight, halted)]
        assert_same(*best, "best")
        summaries = [json.loads((folder / "metrics_fit.json").read_text()) for folder in (straight, halted)]
        scores = [{k: v for k, v in summary.items() if "seconds" not in k} for summary in summaries]
        assert scores[0] == scores[1]


def test_a_run_killed_before_its_first_checkpoint_starts_over(train, kill_at, capfd) -> None:
    settings = ("epochs=1", "model.dropout=0.2")
    kill_at(0)
    with pytest.raises(Killed):
        train("toy_chat", *settings, name="halted")
    kill_at(None)
    straight = train("toy_chat", *settings, name="straight")
    run_hydra([f"resume={straight.with_name('halted')}"])
    assert "starts over" in capfd.readouterr().err
    ends = [
        torch.load(straight.with_name(n) / "checkpoints/last.ckpt", weights_only=True) for n in ("straight", "halted")
    ]
    assert_same(ends[0]["state_dict"], ends[1]["state_dict"])


def test_a_broken_last_checkpoint_gives_way_to_the_one_before(train, capfd) -> None:
    folder = train("toy_chat", "epochs=3", "model.dropout=0.2") / "checkpoints"
    wanted = torch.load(folder / "last.ckpt", weights_only=True)
    whole = (folder / "last.ckpt").read_bytes()
    (folder / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    run_hydra([f"resume={folder.parent}"])
    assert "last.ckpt: broken" in capfd.readouterr().err
    assert_same(wanted["state_dict"], torch.load(folder / "last.ckpt", weights_only=True)["state_dict"])
    for name in ("last.ckpt", "previous.ckpt"):
        (folder / name).write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"last\.ckpt: broken"):
        run_hydra([f"resume={folder.parent}"])


def losses(folder: Path) -> list[float]:
    """The training loss of every step."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [event.value for event in events.Scalars("train/loss")]


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "flickr8k_soft" else []) for name in tiny_data.STEPS],
)
def test_accumulated_batches_make_the_step_of_the_joined_batch(train, monkeypatch, experiment: str) -> None:
    """With unequal lengths, and batches of unequal size."""
    accumulated = train(experiment, *tiny_data.STEPS[experiment], "trainer.accumulate_grad_batches=2", name="accumulated")
    monkeypatch.setattr("attendgen.data.loader.ResumableSampler", tiny_data.JoinedSampler)
    joined = train(experiment, *tiny_data.STEPS[experiment], name="joined")
    ends = [torch.load(folder / "checkpoints/last.ckpt", weights_only=True) for folder in (accumulated, joined)]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 10
    for name, weights in ends[0]["state_dict"].items():
        torch.testing.assert_close(ends[1]["state_dict"][name], weights, rtol=1e-5, atol=1e-5, msg=name)


def test_a_moved_run_is_resumed_in_its_new_place(train, tmp_path: Path) -> None:
    folder = train("toy_chat", "epochs=1")
    moved = folder.rename(tmp_path / "elsewhere")
    run_hydra([f"resume={moved}", "epochs=2"])
    assert not folder.exists()
    assert torch.load(moved / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 1


def test_wrong_data_leaves_no_run_directory(train, tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(UserError, match=r"empty\.tsv: no sentence pairs"):
        train("toy_chat", f"data.train={tmp_path}/empty.tsv")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(train) -> None:
    folder = train("toy_chat", "trainer=smoke")
    before = (folder / "checkpoints/last.ckpt").read_bytes()
    with pytest.raises(UserError, match="holds a run already"):
        train("toy_chat", "trainer=smoke", "seed=5")
    assert (folder / "checkpoints/last.ckpt").read_bytes() == before


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_on_the_cpu(train, precision: str) -> None:
    folder = train("toy_chat", "trainer=smoke", f"trainer.precision={precision}")
    loss = json.loads((folder / "metrics_fit.json").read_text())
    assert loss["steps"] == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("experiment=nope", "Could not find 'experiment/nope'"),
        ("trainer.max_epohcs=3", "max_epohcs"),
        ("model.hiden=3", "hiden"),
        ("data.level=syllables", "syllables"),
        ("data.source_normalizer=odd", "vocabulary.normalizer=odd"),
        ("epochs=many", "many"),
        ("nonsense", "nonsense"),
        ("resume=nowhere", "nowhere: no such run"),
        ("decoding.beam_size=0", "beam 0"),
        ("trainer.profiler=fast", "trainer.profiler=fast"),
        ("threads=0", "threads=0: expected a whole number from 1"),
        ("threads=many", "threads=many: expected a whole number from 1"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path: Path, argument: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        run_hydra(["experiment=toy_chat", f"hydra.run.dir={tmp_path / 'run'}", "trainer=smoke", argument])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


class Epochs(lightning.Callback):
    """Notes what each epoch trains on."""

    def __init__(self) -> None:
        self.batches: dict[int, list[list[int]]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.batches.setdefault(trainer.current_epoch, []).append(batch[1].flatten().tolist())


@pytest.mark.parametrize("experiment", ["toy_chat", "novels"])
def test_every_epoch_is_shuffled_anew(train, monkeypatch, experiment: str) -> None:
    seen = Epochs()
    monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm", lambda: seen)
    train(experiment, "epochs=2", "steps=-1", "+trainer.limit_val_batches=1", *SHORT[experiment])
    assert seen.batches[0] != seen.batches[1]


SHORT = {"toy_chat": [], "novels": ["task.schedule.steps=10"]}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_continue(train, monkeypatch, capfd, tmp_path: Path, number: int) -> None:
    def interrupt(_: object, trainer: lightning.Trainer, *rest: object) -> None:
        if trainer.global_step == 6:
            os.kill(os.getpid(), number)

    settings = ("epochs=4", "model.dropout=0.2", "validate_every=1")
    straight = train("toy_chat", *settings, name="straight")
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm.on_before_optimizer_step", interrupt)
    with pytest.raises(Interrupted) as stopped:
        train("toy_chat", *settings, name="halted")
    monkeypatch.undo()
    assert stopped.value.number == number
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert f"attendgen train resume={tmp_path / 'halted'}" in capfd.readouterr().err
    last = tmp_path / "halted" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 7, "the step is ended first"
    run_hydra([f"resume={tmp_path / 'halted'}"])
    ends = [torch.load(path, weights_only=True) for path in (straight / "checkpoints/last.ckpt", last)]
    assert_same(ends[0]["state_dict"], ends[1]["state_dict"])


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(train, monkeypatch) -> None:
    def poison(_: object, trainer: lightning.Trainer, task: lightning.LightningModule, *rest: object) -> None:
        if trainer.global_step == 11:
            next(task.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm.on_before_optimizer_step", poison)
    with pytest.raises(DivergedError, match=r"step 13, batch 0 of epoch 3"):
        train("toy_chat", "epochs=9", "data.batch_size=5", "callbacks.last.minutes=0", name="halted")
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["monitor.metric=val/nothing"], "val/nothing"),
        (["seed=-1"], "seed=-1"),
        (["data.batch_size=0"], "data.batch_size=0"),
        (["--bogus"], "--bogus"),
        (["trainer=gpu"], "GPU" if not torch.cuda.is_available() else ""),
    ],
)
def test_a_setting_that_only_the_trainer_can_refuse(train, overrides: list[str], message: str) -> None:
    if not message:
        pytest.skip("there is a GPU")
    with pytest.raises(UserError) as error:
        train("toy_chat", "epochs=1", "validate_every=1", *overrides)
    assert message.lower() in str(error.value).lower()
    assert "\n" not in str(error.value)


def test_a_mistake_does_not_delete_what_others_wrote(train, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError):
        train("toy_chat", "data.train=nowhere.tsv")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_cosine_follows_more_steps_when_resumed(train) -> None:
    folder = train("shapes", "epochs=2", "steps=-1", "task.schedule.steps=2", "task.schedule.warmup=0")
    halted = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert halted["lr_schedulers"][0]["_last_lr"] == [pytest.approx(0.0, abs=1e-12)], "the cosine has ended"
    run_hydra([f"resume={folder}", "epochs=4", "task.schedule.steps=4"])
    resumed = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert resumed["global_step"] == 4
    weight = "model.output.weight"
    assert not torch.equal(resumed["state_dict"][weight], halted["state_dict"][weight]), "it goes on above zero"
    assert yaml.safe_load((folder / "config.yaml").read_text())["task"]["schedule"]["steps"] == 4
    written = (folder / "train.log").read_text()
    assert "continued: epochs=4 task.schedule.steps=4" in written
    assert "after 4 steps" in written


def test_features_of_a_trained_encoder_are_not_cached(train) -> None:
    with pytest.raises(UserError, match=r"data\.cache=null"):
        train("flickr8k_soft", "trainer=smoke", "model.encoder.freeze=false")


def test_training_works_without_a_logger(train) -> None:
    assert (train("toy_chat", "trainer=smoke", "logger=none") / "checkpoints" / "best.ckpt").is_file()


def test_a_disk_too_full_for_the_checkpoints_is_reported_before_training(train, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10_000))
    with pytest.raises(UserError, match=r"run: 0 MB are free, but the checkpoints need up to \d+ MB"):
        train("toy_chat")
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(train, monkeypatch, tmp_path: Path) -> None:
    whole = torch.save

    def save(checkpoint: dict, path: Path) -> None:
        whole(checkpoint, path)
        if checkpoint["global_step"] > 8:
            with path.open("r+b") as file:
                file.truncate(1000)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.save", save)
    with pytest.raises(UserError, match=r"ckpt: cannot be written: No space left on device; the checkpoints before"):
        train("toy_chat", "epochs=4", "validate_every=1")
    monkeypatch.undo()
    folder = tmp_path / "run"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    run_hydra([f"resume={folder}"])
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 16


def test_a_folder_that_cannot_be_written_to_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        run_hydra(["experiment=toy_chat", f"paths.outputs={tmp_path / 'file'}"])


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
def test_bfloat16_scores_as_single_precision_does(train, experiment: str, metric: str, settings: list[str]) -> None:
    """After 200 steps, none of which had a loss that was not finite: the run would have stopped."""
    common = ["steps=200", "callbacks.samples=null", f"monitor.metric={metric}", "monitor.mode=min", *settings]
    scores = []
    for precision in ("32-true", "bf16-mixed"):
        folder = train(experiment, *common, f"trainer.precision={precision}", name=precision)
        summary = json.loads((folder / "metrics_fit.json").read_text())
        assert summary["steps"] == 200
        scores.append(summary[metric])
    assert scores[1] == pytest.approx(scores[0], rel=0.01)
