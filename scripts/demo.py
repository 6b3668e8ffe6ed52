"""Train the toy chat, see it answer, and save an alignment heat map (make demo)."""

import os
import sys
from pathlib import Path

import attendgen
from attendgen.data.tsv import read_pairs
from attendgen.hydra_app.app import run_hydra
from attendgen.inference.translator import Translator
from attendgen.runs.listing import find_runs
from attendgen.utils.resources import bundled_file
from attendgen.utils.tables import print_table
from attendgen.visualization import plotting

EXTRA = "tu vas bien?"  # no question of the training pairs to the letter


def main() -> None:
    """Train, answer, draw."""
    run_hydra(["experiment=toy_chat"])
    folder = find_runs(Path("outputs/toy_chat"))[0].folder
    model = attendgen.load(folder)
    assert isinstance(model, Translator)
    pairs = read_pairs(bundled_file("toy_chat.tsv"))
    answers = {source: model.generate(source)[0].text for source, _ in pairs}
    rows = [[source, answers[source], "yes" if answers[source] == target else "no"] for source, target in pairs]
    rows.append([EXTRA, model.generate(EXTRA)[0].text, ""])
    print_table(["question", "answer", "exact"], rows)
    right = sum(answers[source] == target for source, target in pairs)
    print(f"{right} of {len(pairs)} answers are exact")

    result = model.generate(EXTRA)[0]
    picture = folder / "attention.png"
    plotting.save(plotting.alignment(result.source, result.tokens, result.attention), picture)
    print(f"attention: {picture}")
    print(f"run:       {folder}")
    print(f"watch:     {os.path.dirname(sys.executable)}/tensorboard --logdir {folder}/tensorboard")


if __name__ == "__main__":
    main()
