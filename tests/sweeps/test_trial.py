"""Sweeps: folders, failures, exit codes, processes, and Optuna's studies."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from attendgen.config.resolvers import register_resolvers
from attendgen.hydra_app.app import run_hydra
from attendgen.runs.layout import TRIAL
from attendgen.sweeps.trial import attempt, run_process, trial_environment
from attendgen.utils.errors import UserError
from attendgen.utils.resources import get_conf_dir
from helpers.errors import Command

TINY = ["experiment=toy_chat", "trainer=smoke", "callbacks.samples=null", "callbacks.progress=null", "logger=none"]
TINY += ["decoding.max_length=4"]
IN_PROCESS = [*TINY, "isolate=false"]  # without the seconds that a process takes to start
SEARCHES = sorted(path.stem for path in (get_conf_dir() / "sweep").glob("*.yaml") if path.stem != "optuna")

needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="Optuna is not installed: pip install .[sweep]"
)


def trials_of(outputs: Path) -> list[Path]:
    """The trials' folders of the only sweep."""
    (sweep,) = (path for path in (outputs / "multirun" / "toy_chat").iterdir() if path.is_dir())
    return sorted(path for path in sweep.iterdir() if path.is_dir() and not path.name.startswith("."))


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text())


def command(*arguments: str) -> list[str]:
    """The command line in a process of its own."""
    return [sys.executable, "-c", "from attendgen.cli.app import main; main()", "train", *arguments]


def test_experiments_are_compared_in_one_folder_and_one_table(tmp_path: Path, attendgen: Command) -> None:
    experiments = ["toy_chat", "toy_chat_letters"]
    given = [*IN_PROCESS[1:], f"hydra.sweep.dir={tmp_path}/both"]
    done = attendgen("train", "-m", f"experiment={','.join(experiments)}", *given)
    assert done.code == 0, done.err
    trials = [tmp_path / "both" / str(number) for number in range(2)]
    assert [yaml.safe_load((trial / "config.yaml").read_text())["name"] for trial in trials] == experiments
    assert "2 of 2 trials trained" in done.out
    for number, name in enumerate(experiments):
        (row,) = [line for line in done.out.splitlines() if line.split()[:1] == [str(trials[number])]]
        assert name in row.split()


def test_a_failed_trial_is_reported_and_the_others_train(tmp_path: Path, attendgen: Command) -> None:
    done = attendgen("train", "-m", "seed=1,2", "model.hidden=8,-1", *IN_PROCESS, f"paths.outputs={tmp_path}")
    assert done.code == 1
    trials = trials_of(tmp_path)
    assert [path.name for path in trials] == ["0", "1", "2", "3"]
    for trial, (seed, hidden) in zip(trials, [(1, 8), (1, -1), (2, 8), (2, -1)], strict=True):
        overrides = yaml.safe_load((trial / ".hydra" / "overrides.yaml").read_text())
        assert {f"seed={seed}", f"model.hidden={hidden}"} <= set(overrides)
        if hidden > 0:
            config = yaml.safe_load((trial / "config.yaml").read_text())
            assert (config["seed"], config["model"]["hidden"]) == (seed, hidden)
            assert config["paths"]["run"] == str(trial)
            assert read(trial / "environment.json")["command"] == ["attendgen", "train", *overrides]
        else:
            assert "model.hidden=-1: expected a whole number from 1" in str(read(trial / "error.json")["error"])
            assert not (trial / "config.yaml").exists()
    assert "2 of 4 trials trained" in done.out
    assert done.err.count("failed: model.hidden=-1") == 2


@pytest.mark.parametrize(
    ("override", "error", "traced"),
    [
        ("+callbacks.bad={_target_: tests_no_such_module.Callback}", "tests_no_such_module", False),
        ("callbacks.gradient_norm._target_=builtins.object", "object", True),
        ("+callbacks.best.every_n_epochs=100", "no validation gave a finite number", False),
    ],
)
def test_each_kind_of_failure_is_recorded(tmp_path: Path, override: str, error: str, traced: bool) -> None:
    assert run_hydra(["-m", "seed=1", override, *IN_PROCESS, f"paths.outputs={tmp_path}"]) is not None
    (trial,) = trials_of(tmp_path)
    written = read(trial / "error.json")
    assert error in str(written["error"])
    assert (written["traceback"] is not None) == traced


@pytest.mark.slow
def test_a_mistake_of_the_whole_sweep_ends_it(tmp_path: Path) -> None:
    outputs = f"paths.outputs={tmp_path}"
    with pytest.raises(UserError, match=r"devices=2.*isolate=true"):
        run_hydra(["-m", "seed=1,2", *IN_PROCESS, outputs, "trainer=ddp", "trainer.accelerator=cpu"])
    with pytest.raises(UserError, match=r"num_nodes=2.*one machine"):
        run_hydra(["-m", "seed=1,2", *TINY, outputs, "trainer.num_nodes=2"])
    with pytest.raises(UserError, match="nonsense"):
        run_hydra(["-m", "seed=1,2", "model.nonsense=1", *IN_PROCESS, outputs])
    with pytest.raises(UserError, match=r"hydra/launcher/none_such: no such plugin.*attendgen\[cluster\]"):
        run_hydra(["-m", "seed=1,2", "hydra/launcher=none_such", *IN_PROCESS, outputs])


def test_a_run_is_not_a_sweep(tmp_path: Path) -> None:
    assert run_hydra([*TINY, f"hydra.run.dir={tmp_path}/run"]) is None
    assert not (tmp_path / "run" / ".hydra" / "trial.yaml").exists()


@pytest.mark.parametrize(("code", "message"), [(-9, "signal SIGKILL"), (3, "exit code 3")])
def test_a_process_that_dies_is_a_failed_trial(tmp_path: Path, monkeypatch, code: int, message: str) -> None:
    written = []

    def die(arguments: list[str], variables: dict[str, str]) -> int:
        written.append(yaml.safe_load((Path(arguments[-1]) / TRIAL).read_text())["config"])
        return code

    monkeypatch.setattr("attendgen.sweeps.trial.run_process", die)
    run_hydra(["-m", "seed=1,2", *TINY, f"paths.outputs={tmp_path}"])
    for trial, config, seed in zip(trials_of(tmp_path), written, (1, 2), strict=True):
        assert read(trial / "error.json")["error"] == f"its process ended by {message}"
        assert (config["seed"], config["paths"]["run"]) == (seed, str(trial))
        assert not re.search(r"\$\{\w+:", json.dumps(config)), "another process reads it without Hydra"


def test_the_task_chooses_what_is_monitored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a trial learns from the task what the sweep's command leaves open."""

    def train(arguments: list[str], variables: dict[str, str]) -> int:
        folder = Path(arguments[-1])
        trial = yaml.safe_load((folder / TRIAL).read_text())["config"]
        assert trial["monitor"] == {"metric": None, "mode": None}
        return 0 if attempt(OmegaConf.create(trial), folder) else 1

    monkeypatch.setattr("attendgen.sweeps.trial.run_process", train)
    overrides = ["monitor.metric=null", "monitor.mode=null", f"hydra.sweep.dir={tmp_path}/sweep"]
    run_hydra(["-m", "seed=1", *TINY, *overrides])
    assert not (tmp_path / "sweep" / "0" / "error.json").exists()
    assert "val/bleu" in read(tmp_path / "sweep" / "0" / "metrics_fit.json")


def test_the_exit_code_of_a_process_is_returned() -> None:
    assert run_process([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], {}) == -9
    code = "import os, sys; sys.exit(int(os.environ['CODE']))"
    assert run_process([sys.executable, "-c", code], {"CODE": "7"}) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_a_sweep_reaches_its_trial(tmp_path: Path, number: signal.Signals) -> None:
    ready, told = tmp_path / "ready", tmp_path / "told"
    code = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: (pathlib.Path({str(told)!r}).touch(), sys.exit(0)))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(30)\n"
    )

    def stop() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=stop).start()
    with pytest.raises(SystemExit) as ended:
        run_process([sys.executable, "-c", code], {})
    assert ended.value.code == 128 + number
    assert told.exists()
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("accelerator", "devices", "slurm", "visible"),
    [("gpu", 1, False, "4"), ("gpu", 2, False, "4,6"), ("gpu", "auto", False, "4,6,7"), ("cpu", 2, False, "4,6,7"),
     ("gpu", 1, True, "4,6,7"), ("auto", 1, False, "4")],
)  # fmt: skip
def test_a_trials_process_has_gpus_of_its_own(
    tmp_path: Path, monkeypatch, accelerator: str, devices: int | str, slurm: bool, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    if slurm:  # which has chosen the GPUs
        monkeypatch.setenv("SLURM_JOB_ID", "1")
        monkeypatch.setenv("SLURM_JOB_NAME", "sweep")
    monkeypatch.setattr("attendgen.sweeps.trial.make_lock_folder", lambda: tmp_path)
    config = OmegaConf.create({"trainer": {"accelerator": accelerator, "devices": devices}})
    assert isinstance(config, DictConfig)
    with trial_environment(config) as variables:
        assert variables["CUDA_VISIBLE_DEVICES"] == visible
        assert variables.get("SLURM_JOB_NAME") == ("interactive" if slurm else None)


@needs_optuna
@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_composes_at_both_ends_of_its_space(name: str) -> None:
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
    from optuna.distributions import CategoricalDistribution

    register_resolvers()
    with initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
        whole = compose("train", [f"sweep={name}"], return_hydra_config=True)
        sweeper = whole.hydra.sweeper
        assert OmegaConf.to_container(sweeper)["direction"] == "${direction:${monitor.mode}}"
        assert sweeper.direction == {"min": "minimize", "max": "maximize"}[whole.monitor.mode]
        space, fixed = create_params_from_overrides([f"{key}={value}" for key, value in sweeper.params.items()])
        assert space
        assert not fixed
        for end in (0, -1):
            choices = {
                key: space.choices[end] if isinstance(space, CategoricalDistribution) else (space.low, space.high)[end]
                for key, space in space.items()
            }
            config = compose("train", [f"sweep={name}", *(f"{key}={value}" for key, value in choices.items())])
            for key, value in choices.items():
                if "/" not in key:
                    assert OmegaConf.select(config, key) == value
    assert whole.hydra.runtime.choices.experiment == name


def study(outputs: Path):
    """The trials in the study's database."""
    import optuna

    storage = f"sqlite:///{outputs}/multirun/toy_chat/study.db"
    return optuna.load_study(study_name="toy_chat", storage=storage).get_trials()


@needs_optuna
def test_a_study_continues_and_remembers_failures(tmp_path: Path) -> None:
    settings = ["sweep=toy_chat", "hydra.sweeper.n_trials=2", f"paths.outputs={tmp_path}", *IN_PROCESS]
    run_hydra(settings)
    first = study(tmp_path)
    assert [trial.state.name for trial in first] == ["COMPLETE", "COMPLETE"]
    run_hydra([*settings, f"hydra.sweep.dir={tmp_path}/multirun/toy_chat/more", "data.batch_size=0"])
    trials = study(tmp_path)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    assert [trial.params for trial in trials[:2]] == [trial.params for trial in first]
    assert len({json.dumps(trial.params) for trial in trials}) == 4, "no point is tried twice"
    for number, trial in enumerate(first):
        (folder,) = (tmp_path / "multirun" / "toy_chat").glob(f"2*/{number}")
        config = OmegaConf.load(folder / "config.yaml")
        assert OmegaConf.select(config, "task.optimizer.lr") == trial.params["task.optimizer.lr"]
        assert read(folder / "metrics_fit.json")["val/exact_match"] == trial.value


@needs_optuna
def test_a_study_whose_trials_all_fail_does_not_crash(tmp_path: Path) -> None:
    settings = ["sweep=toy_chat", "hydra.sweeper.n_trials=2", f"paths.outputs={tmp_path}", *IN_PROCESS]
    folder = run_hydra([*settings, "data.batch_size=0"])
    assert folder is not None
    assert len(list(folder.glob("*/error.json"))) == 2


@pytest.mark.slow
@needs_optuna
def test_a_killed_study_continues(tmp_path: Path) -> None:
    settings = ["sweep=toy_chat", "hydra.sweeper.n_trials=3", f"paths.outputs={tmp_path}", *TINY]
    process = subprocess.Popen(command(*settings), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while not list((tmp_path / "multirun").glob("*/*/1/.hydra/trial.yaml")):
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    (done, *_) = before = study(tmp_path)
    assert [trial.state.name for trial in before] == ["COMPLETE", "RUNNING"]
    after = subprocess.run(command(*settings), capture_output=True, text=True, timeout=300)
    assert after.returncode == 0, after.stderr[-3000:]
    trials = study(tmp_path)
    assert trials[0] == done
    assert [trial.state.name for trial in trials[2:]] == ["COMPLETE"] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "launcher"),
    [
        ("basic", "hydra/launcher=basic"),
        ("joblib", "hydra/launcher=joblib hydra.launcher.n_jobs=2"),
        ("submitit", "hydra/launcher=submitit_local"),
        ("ray", "hydra/launcher=ray"),
    ],
)
def test_every_launcher_survives_a_crash(tmp_path: Path, plugin: str, launcher: str) -> None:
    if plugin != "basic" and importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
        pytest.skip(f"the {plugin} launcher is not installed: pip install .[sweep,cluster]")
    crash = "+callbacks.crash={},{_target_: os.abort}"
    settings = ["-m", crash, *launcher.split(), *TINY, f"paths.outputs={tmp_path}"]
    done = subprocess.run(command(*settings), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr[-3000:]
    good, bad = trials_of(tmp_path)
    assert read(good / "metrics_fit.json")["steps"] == 2
    assert read(bad / "error.json")["error"] == "its process ended by signal SIGABRT"
    assert "1 of 2 trials trained" in done.stdout
