"""Compare a captioner with the people who wrote the references, on equal terms.

    attendgen evaluate RUN --split dev
    python scripts/human_captions.py RUN --split dev

A human caption can be scored against the other captions of its image only, and scores rise with the number of
references. So the model is scored against the same: each reference is left out in turn, and the scores are averaged.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from attendgen.cli.script import script
from attendgen.data.captions.module import CaptionDataModule
from attendgen.data.module import SPLITS, canonical_split, open_data
from attendgen.metrics.captions import score_captions
from attendgen.runs.layout import CAPTIONS
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json
from attendgen.utils.tables import print_table

METRICS = ("bleu1", "bleu4", "rouge_l", "cider")
References = Mapping[int, Sequence[str]]


def score_leaving_one_out(captions: Mapping[int, str] | None, references: References) -> dict[str, float]:
    """Return the mean scores against all references but one, over the one that is left out.

    Args:
        captions: by image; None scores the reference that is left out.
    """
    number = min(map(len, references.values()))
    scores = []
    for left_out in range(number):
        rest = {key: [text for i, text in enumerate(texts) if i != left_out] for key, texts in references.items()}
        own = {key: texts[left_out] for key, texts in references.items()} if captions is None else captions
        scores.append(score_captions(own, rest))
    return {name: statistics.mean(score[name] for score in scores) for name in METRICS}


def read_captions(path: Path, data: CaptionDataModule, split: str) -> dict[int, str]:
    """Return the captions that an evaluation has written, by the image's index.

    Raises:
        UserError: there are none, or they are captions of other images.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run attendgen evaluate with --split {split} first, or give --captions")
    written = {entry["image_id"]: entry["caption"] for entry in read_json(path)}
    ids = data.rows(canonical_split(split)).image_ids
    if set(ids) != set(written):
        raise UserError(f"{path}: captions of other images than the data's {split} split; evaluate again")
    return {index: written[name] for index, name in enumerate(ids)}


@script
def main(arguments: list[str] | None = None) -> None:
    """Print a table of both, and of the model against all references."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a captioner: a run directory, a .ckpt file or a bundled model")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes of the run's config")
    parser.add_argument("--split", default="dev", choices=(*SPLITS, "dev"), help="of the captions (default dev)")
    parser.add_argument("--captions", type=Path, help="file that evaluate wrote; default: the one in the run directory")
    options = parser.parse_intermixed_args(arguments)
    run = Run.find(options.run)
    data = open_data(run.override(options.overrides).data, run.vocabulary)
    if not isinstance(data, CaptionDataModule):
        raise UserError(f"{options.run}: not a captioner")
    references = data.references(canonical_split(options.split))
    path = options.captions or (run.folder or run.checkpoint.parent) / CAPTIONS.format(split=options.split)
    captions = read_captions(path, data, options.split)
    fewest = min(map(len, references.values()))
    if fewest < 2:
        raise UserError(f"{options.run}: an image has one reference only; two or more are needed")
    rows = {
        ("human", fewest - 1): score_leaving_one_out(None, references),
        ("model", fewest - 1): score_leaving_one_out(captions, references),
        ("model", fewest): score_captions(captions, references),
    }
    table = [[who, str(count), *(f"{scores[name]:.4f}" for name in METRICS)] for (who, count), scores in rows.items()]
    print_table(["captions by", "references", *METRICS], table)


if __name__ == "__main__":
    main()
