"""Compare attendgen's caption tokenizer with the Java one of pycocoevalcap.

python scripts/compare_tokenizers.py --flickr8k Flickr8k.token.txt --coco captions_val2017.json
"""

import argparse
import shutil
from collections.abc import Sequence

from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from attendgen.cli.script import script
from attendgen.metrics.tokenization import tokenize
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_text

EXAMPLES = 10


def flickr8k_captions(path: str) -> list[str]:
    """The captions of a `name.jpg#0<tab>caption` file."""
    captions = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line:
            continue
        _, tab, caption = line.partition("\t")
        if not tab:
            raise UserError(f"{path}: line {number}: no tab between picture and caption")
        captions.append(caption)
    return captions


def coco_captions(path: str) -> list[str]:
    """The captions of a COCO annotation file."""
    try:
        return [str(annotation["caption"]) for annotation in read_json(path)["annotations"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a COCO caption file: annotations[].caption is missing") from error


def java_tokenise(captions: Sequence[str]) -> list[str]:
    """What pycocoevalcap makes of the captions.

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
        raise UserError(f"java: {len(captions)} captions went in, but {len(tokenized)} came out; does `java` run?")
    return [tokenized[index][0] for index in range(len(captions))]


@script
def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the Python caption tokenizer with pycocoevalcap's in Java.")
    parser.add_argument("--flickr8k", metavar="FILE", help="Flickr8k.token.txt")
    parser.add_argument("--coco", metavar="FILE", nargs="+", default=[], help="COCO caption annotations")
    arguments = parser.parse_args()
    captions = flickr8k_captions(arguments.flickr8k) if arguments.flickr8k else []
    for path in arguments.coco:
        captions += coco_captions(path)
    # Java reads a caption a line, and some white space ends a line
    captions = [text for caption in captions if (text := " ".join(caption.split()))]
    if not captions:
        raise UserError("no captions to compare; give --flickr8k FILE or --coco FILE")
    pairs = [(text, java, tokenize(text)) for text, java in zip(captions, java_tokenise(captions), strict=True)]
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    print(f"{len(pairs)} captions compared, {len(differing)} differ")
    for text, java, ours in differing[:EXAMPLES]:
        print(f"  {text}\n    java {java}\n    ours {ours}")


if __name__ == "__main__":
    main()
