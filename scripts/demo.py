"""Train the toy chat, print its answers, and save the attention of one answer as a heat map.

make demo
"""

import sys
from pathlib import Path

import attendgen
from attendgen.cli.script import script
from attendgen.data.tsv import read_pairs
from attendgen.hydra_app.app import run_hydra
from attendgen.inference.translator import Translator
from attendgen.runs.layout import TENSORBOARD
from attendgen.runs.listing import find_runs
from attendgen.utils.resources import bundled_file
from attendgen.utils.tables import print_table
from attendgen.visualization import plotting

NEW_QUESTION = "tu vas bien?"  # not among the training pairs


@script
def main() -> None:
    """Train, answer all training questions and a new one, and draw the attention of the last answer."""
    run_hydra(["experiment=toy_chat"])
    folder = find_runs(Path("outputs/toy_chat"))[0].folder
    model = attendgen.load(folder)
    assert isinstance(model, Translator)
    pairs = read_pairs(bundled_file("toy_chat.tsv"))
    answers = {question: model.generate(question)[0].text for question, _ in pairs}
    new = model.generate(NEW_QUESTION)[0]
    rows = [[question, answers[question], "yes" if answers[question] == answer else "no"] for question, answer in pairs]
    print_table(["question", "answer", "exact"], [*rows, [NEW_QUESTION, new.text, "new"]])
    exact = sum(answers[question] == answer for question, answer in pairs)
    print(f"{exact} of {len(pairs)} answers are exact; the last question was not in the training")

    image = folder / "attention.png"
    plotting.save(plotting.plot_alignment(new.source, new.tokens, new.attention), image)
    print(f"attention: {image}")
    print(f"run:       {folder}")
    programs = Path(sys.executable).parent
    print("next:")
    for command in (
        f'attendgen generate {folder} "quoi de neuf?" --html page.html',
        'attendgen generate multi30k-fr-en "Un homme dort sur un canapé." --beam 5',
        "attendgen train experiment=toy_chat model/attention=additive",
        f"tensorboard --logdir {folder / TENSORBOARD}",
    ):
        print(f"  {programs / command}")


if __name__ == "__main__":
    main()
