"""Compare AttendGen's caption tokenizer with the Java tokenizer of pycocoevalcap.

python scripts/compare_tokenizers.py --flickr8k Flickr8k.token.txt --coco captions_val2017.json
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from attendgen.cli.script import script
from attendgen.metrics.tokenization import tokenize
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_text


def read_flickr8k_captions(path: str | Path) -> list[str]:
    """Read the captions of a file with lines of `name.jpg#0<tab>caption`.

    Raises:
        UserError: the file is missing, or a line has no tab.
    """
    captions = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line:
            continue
        _, tab, caption = line.partition("\t")
        if not tab:
            raise UserError(f"{path}: line {number}: no tab between image and caption")
        captions.append(caption)
    return captions


def read_coco_captions(path: str | Path) -> list[str]:
    """Read the captions of a COCO annotation file.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        return [str(annotation["caption"]) for annotation in read_json(path)["annotations"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a COCO caption file: annotations[].caption is missing") from error


def tokenize_with_java(captions: Sequence[str]) -> list[str]:
    """Tokenize captions with pycocoevalcap.

    Raises:
        UserError: there is no Java, or it cannot run.
    """
    if shutil.which("java") is None:
        raise UserError("java: not found on PATH; install a Java runtime to compare with its tokenizer")
    try:
        tokenized = PTBTokenizer().tokenize({index: [{"caption": caption}] for index, caption in enumerate(captions)})
    except OSError as error:  # it writes its input beside its own code
        raise UserError(f"{error.filename}: {error.strerror}; pycocoevalcap's folder must be writable") from error
    if len(tokenized) != len(captions):
        raise UserError(f"java: {len(tokenized)} captions returned for {len(captions)}; check that `java` runs")
    return [tokenized[index][0] for index in range(len(captions))]


@script
def main(arguments: list[str] | None = None) -> None:
    """Print how many captions differ, and the first of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--flickr8k", metavar="FILE", nargs="+", default=[], help="captions, such as Flickr8k.token.txt"
    )
    parser.add_argument("--coco", metavar="FILE", nargs="+", default=[], help="COCO caption annotations")
    parser.add_argument("--examples", type=int, default=10, help="differing captions to print (default 10)")
    options = parser.parse_args(arguments)
    captions = [caption for path in options.flickr8k for caption in read_flickr8k_captions(path)]
    captions += [caption for path in options.coco for caption in read_coco_captions(path)]
    # Java reads one caption per line, and some white space ends a line
    captions = [text for caption in captions if (text := " ".join(caption.split()))]
    if not captions:
        raise UserError("no captions to compare; give --flickr8k FILE or --coco FILE")
    pairs = [(text, java, tokenize(text)) for text, java in zip(captions, tokenize_with_java(captions), strict=True)]
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    print(f"{len(pairs)} captions compared, {len(differing)} differ")
    for text, java, own in differing[: options.examples]:
        print(f"  {text}\n    java      {java}\n    attendgen {own}")


if __name__ == "__main__":
    main()
