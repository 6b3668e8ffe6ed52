"""Compare two runs, or two settings of several seeds, by their outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attendgen.config.instantiate import instantiate
from attendgen.data.captions.features import get_image_encoder
from attendgen.data.module import canonical_split, open_data, require_split
from attendgen.evaluation.bootstrap import Comparison, compare_systems
from attendgen.evaluation.tag import require_tag
from attendgen.layers.tables import Table
from attendgen.metrics.statistics import METRICS, TABLE_METRICS, collect_statistics
from attendgen.metrics.tokenization import tokenize
from attendgen.runs.grouping import group_runs
from attendgen.runs.layout import CAPTIONS, CONFIG, OUTPUTS, SETTINGS
from attendgen.runs.listing import find_runs
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError, format_some
from attendgen.utils.files import read_json, read_text


@dataclass(frozen=True)
class EvaluatedOutputs:
    """The outputs of a run's evaluation, with what they are compared with."""

    run: Run
    outputs: list[str]
    inputs: list[str | int]
    references: list[tuple[str, ...]]
    tables: list[Table] | None = None


def compare(
    first: str | Path | Run,
    second: str | Path | Run,
    split: str = "val",
    metric: str | None = None,
    *,
    tags: tuple[str, str] = ("", ""),
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Test by the paired bootstrap whether two runs differ, from the outputs that `evaluate` has written.

    Args:
        first, second: a run (its name, its folder or a `Run`), or a folder of runs of one setting with several seeds,
            whose scores are averaged.
        metric: one of `METRICS` and `TABLE_METRICS` of `attendgen.metrics.statistics`; the score that selected the
            first run's best checkpoint unless given.
        tags: of the two evaluations; empty for the runs' own search.
        samples: of the inputs.
        seed: of the samples.

    Raises:
        UserError: a run or its outputs are missing, the inputs differ, or the metric cannot be resampled.
    """
    require_split("--split", split)
    systems = [
        [read_outputs(run, f"{split}.{require_tag(tag)}" if tag else split) for run in find_seeds(name)]
        for name, tag in ((first, tags[0]), (second, tags[1]))
    ]
    expected = systems[0][0]
    for found in (each for system in systems for each in system):
        if (found.inputs, found.references, found.tables) != (expected.inputs, expected.references, expected.tables):
            names = f"{expected.run.folder} and {found.run.folder}"
            raise UserError(f"{names}: their outputs are of different inputs or references; a pair must share them")
    if metric is None:
        metric = str(expected.run.config.monitor.metric).partition("/")[2]
        if metric not in METRICS and metric not in TABLE_METRICS:
            raise UserError(f"--metric: the runs' own, {metric}, cannot be resampled; choose {', '.join(METRICS)}")
    one, other = (
        [collect_statistics(metric, *_choose_texts(metric, run), run.tables) for run in system] for system in systems
    )
    return compare_systems(metric, one, other, samples, seed)


def _choose_texts(metric: str, run: EvaluatedOutputs) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return outputs and references as an evaluation compares them: equal captions have equal tokens."""
    if metric != "exact_match" or run.run.family != "captioner":
        return run.outputs, run.references
    return [tokenize(text) for text in run.outputs], [[tokenize(text) for text in texts] for texts in run.references]


def find_seeds(name: str | Path | Run) -> list[Run]:
    """Return a run, or the runs of all seeds in a folder.

    Raises:
        UserError: the folder holds runs of several settings, or a run is missing or broken.
    """
    if isinstance(name, Run):
        return [name]
    folder = Path(name)
    if not folder.is_dir() or (folder / CONFIG).is_file():
        return [Run.find(name)]
    groups = group_runs([run for run in find_runs(folder) if not run.failed])
    if len(groups) != 1:
        raise UserError(
            f"{folder}: holds runs of {len(groups)} settings; give a run, or a folder of one setting with several seeds"
        )
    return [Run.find(run.folder) for run in groups[0]]


def read_outputs(run: Run, label: str) -> EvaluatedOutputs:
    """Return the outputs of a run's evaluation, with the inputs and references of the data that it read.

    Args:
        label: the split, with the tag if there is one.

    Raises:
        UserError: there are none, a file is broken, or the data has changed since.
    """
    if run.folder is None:
        raise UserError(f"{run.checkpoint}: a checkpoint has no outputs; give a run directory")
    captions, lines = run.folder / CAPTIONS.format(split=label), run.folder / OUTPUTS.format(split=label)
    if captions.is_file():
        outputs = [str(row["caption"]) for row in read_json(captions)]
    elif lines.is_file():
        outputs = read_text(lines).split("\n")[:-1]
    else:
        raise UserError(f"{lines}: no such file; {_suggest_tag(run.folder, label)}")
    inputs, references, tables = _read_data(run, label)
    if len(outputs) != len(references):
        raise UserError(
            f"{run.folder}: {len(outputs)} outputs of {label} for {len(references)} examples; evaluate it again"
        )
    return EvaluatedOutputs(run, outputs, inputs, references, tables)


def _suggest_tag(folder: Path, label: str) -> str:
    """Return what to do where an evaluation has no outputs: name the tags of others of the same split."""
    split = label.partition(".")[0]
    names = (pattern.format(split=f"{split}.*") for pattern in (CAPTIONS, OUTPUTS))
    tags = sorted({path.name.split(".")[1] for name in names for path in folder.glob(name)})
    if tags:
        return f"other evaluations of {split} have the tags {format_some(tags)}; name one of them, or evaluate the run"
    return "evaluate the run first (a language model writes no outputs)"


def _read_data(run: Run, label: str) -> tuple[list[str | int], list[tuple[str, ...]], list[Table] | None]:
    """Return the inputs, references and tables of an evaluation, with the settings that were changed in it."""
    assert run.folder is not None
    path = run.folder / SETTINGS.format(split=label)
    changes: Sequence[str] = read_json(path).get("changes", []) if path.is_file() else []
    config = run.override(list(changes))
    task: Any = instantiate(config.task, "task", model=run.load_model(config), vocabulary=run.vocabulary)
    data = open_data(config.data, run.vocabulary, get_image_encoder(task.model))
    data.eval_split = canonical_split(label.partition(".")[0])
    references = task.get_references(data)
    tables = task.get_tables(data)
    order = sorted(references)
    return (
        list(data.inputs(data.eval_split)),
        [tuple(references[index]) for index in order],
        None if tables is None else [tables[index] for index in order],
    )
