"""TensorBoard's hparams view: settings beside the best checkpoint's scores."""

import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from attendgen.hydra_app.app import run_hydra


@pytest.mark.parametrize("sweep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_view_has_settings_and_the_best_checkpoints_scores(tmp_path: Path, sweep: bool) -> None:
    # by the worst validation, which is the first: the last is another one
    given = ["model/attention=additive", "task.optimizer.lr=0.3", "seed=3"]
    settings = [
        "epochs=3",
        "validate_every=1",
        "callbacks.samples=null",
        "decoding.max_length=10",
        "monitor.metric=val/cross_entropy",
        "monitor.mode=max",
    ]
    run = tmp_path / "0"
    hydra = ["-m", f"hydra.sweep.dir={tmp_path}"] if sweep else [f"hydra.run.dir={run}"]
    run_hydra([*hydra, "experiment=toy_chat", "isolate=false", "callbacks.progress=null", *given, *settings])
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    data = {
        name: HParamsPluginData.FromString(metadata.plugin_data.content)
        for name, metadata in events.summary_metadata.items()
        if metadata.plugin_data.plugin_name == "hparams"
    }
    experiment = next(entry.experiment for entry in data.values() if entry.HasField("experiment"))
    session = next(entry.session_start_info for entry in data.values() if entry.HasField("session_start_info"))
    names = {info.name for info in experiment.hparam_infos}
    chosen = {argument.partition("=")[0] for argument in [*given, *settings] if not argument.startswith("callbacks")}
    assert (names == chosen | {"experiment"}) if sweep else (names > chosen | {"experiment", "model.hidden"})
    assert session.hparams["model/attention"].string_value == "additive"
    assert session.hparams["task.optimizer.lr"].number_value == 0.3
    assert session.hparams["seed"].number_value == 3
    assert session.hparams["validate_every"].number_value == 1
    declared = [info.name.tag for info in experiment.metric_infos]
    assert declared[0] == "final/cross_entropy"
    entries = events.Scalars("val/cross_entropy")
    best = max(range(len(entries)), key=lambda i: entries[i].value)
    assert best < len(entries) - 1
    assert {f"final/{name}" for name in ("bleu", "perplexity", "exact_match")} <= set(declared)
    for name in ("cross_entropy", "perplexity", "bleu"):
        assert events.Scalars(f"final/{name}")[-1].value == events.Scalars(f"val/{name}")[best].value
    assert events.Scalars("final/perplexity")[-1].value == pytest.approx(math.exp(entries[best].value), rel=1e-4)
