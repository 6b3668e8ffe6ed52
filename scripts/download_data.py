"""Download a data set of the experiments into the folder where they look for it.

python scripts/download_data.py flickr8k        # or coco, e2e, multi30k, novels, rotowire, rotowire_sentences

--root DIR names another folder.

An interrupted download resumes. The sizes and digests of COCO and Flickr8k are those in the lists of TensorFlow
Datasets and torchdatasets. Gutenberg's texts, which change, and Multi30k's archives have no published digest: the first
download is trusted and its digest written to `downloads.lock.json` beside the data; later downloads must have the same
digest. So it is with the tables of E2E and RotoWire. The training and validation pairs of Multi30k are compared with
those that the results come from.
"""

import argparse
import gzip
import re
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from attendgen.cli.script import script
from attendgen.utils.downloads import compute_digest, fetch, unpack
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text, replacing, write_text


class Archive(NamedTuple):
    """A zip file; `members` maps the files and folders to extract to their paths below the data set's folder."""

    url: str
    size: int | None
    digest: str
    members: Mapping[str, str]


COCO = "http://images.cocodataset.org"
FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
E2E = "https://raw.githubusercontent.com/tuetschek/e2e-dataset/master"
E2E_CLEANED = "https://raw.githubusercontent.com/tuetschek/e2e-cleaning/master/cleaned-data"
E2E_TOKENIZED = "https://raw.githubusercontent.com/harvardnlp/neural-template-gen/master/data"
ROTOWIRE = "https://raw.githubusercontent.com/harvardnlp/boxscore-data/master"
# the folder was moved later
ROTOWIRE_SENTENCES = (
    "https://raw.githubusercontent.com/ZhitingHu/text_content_manipulation/f4393039250dd9d9fd578598a659bb563f1c1549"
)
GUTENBERG = "https://www.gutenberg.org/cache/epub"

ARCHIVES = {
    "coco": (
        Archive(
            f"{COCO}/annotations/annotations_trainval2017.zip",
            252_907_541,
            "sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            {
                "annotations/captions_train2017.json": "annotations/captions_train2017.json",
                "annotations/captions_val2017.json": "annotations/captions_val2017.json",
            },
        ),
        Archive(
            f"{COCO}/zips/val2017.zip",
            815_585_330,
            "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            {"val2017": "val2017"},
        ),
        Archive(
            f"{COCO}/zips/train2017.zip",
            19_336_861_798,
            "sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            {"train2017": "train2017"},
        ),
    ),
    "flickr8k": (
        Archive(
            f"{FLICKR8K}/Flickr8k_text.zip",
            None,
            "md5:bf6c1abcb8e4a833b7f922104de18627",
            {
                name: name
                for name in (
                    "Flickr8k.token.txt",
                    "Flickr_8k.trainImages.txt",
                    "Flickr_8k.devImages.txt",
                    "Flickr_8k.testImages.txt",
                )
            },
        ),
        Archive(
            f"{FLICKR8K}/Flickr8k_Dataset.zip",
            None,
            "md5:f18a1e2920de5bd84dae7cf08ec78978",
            {"Flicker8k_Dataset": "Images"},  # so spelled in the archive
        ),
    ),
}

NOVELS = {"dracula": 345, "moby-dick": 2701, "pride-prejudice": 1342, "tale-of-two-cities": 98}

# of the pairs of each split, where the results have been compared with one
PAIRS = {
    "train": "sha256:a8e21153d4bfb82367ad02671e87eb70cb8e9ed40065be81aa22f295f4a71446",
    "val": "sha256:049c9fe3c907659cd884b55178ee545f27cde99a6762632f119e2b039eca6014",
    "test": None,
}
RAW_PAIRS = {"test": "test_2016_flickr"}  # names of the files of a split, if they are others than its own


def download_archives(root: Path, name: str) -> None:
    """Download and unpack a data set of zip files; an archive is removed after it is unpacked."""
    for archive in ARCHIVES[name]:
        if all((root / to).exists() for to in archive.members.values()):
            print(f"{root}: {', '.join(archive.members.values())}: already present")
            continue
        path = root / archive.url.rpartition("/")[2]
        fetch(archive.url, path, archive.size, archive.digest)
        unpack(path, archive.members, root)
        path.unlink()


def split_book(text: str) -> tuple[str, str]:
    """Return the first 95 % of a text, up to the end of a paragraph, and the rest."""
    most = len(text) * 95 // 100
    end = text.rfind("\n\n", 0, most) + 1 or most
    return text[:end], text[end:].lstrip("\n")


def download_novels(root: Path) -> None:
    """Download four books of Project Gutenberg, and remove its header and license.

    The first 95 % of each are the data set. The rest goes to the folder `held_out`, which no training reads.

    Raises:
        UserError: a file has no such header.
    """
    for name, number in NOVELS.items():
        whole = root / "gutenberg" / f"pg{number}.txt"
        fetch(f"{GUTENBERG}/{number}/pg{number}.txt", whole)
        body = re.search(r"\*\*\* ?START OF.*?\*\*\*\n(.*)\*\*\* ?END OF", read_text(whole), re.DOTALL)
        if body is None:
            raise UserError(f"{whole}: not a book of Project Gutenberg: no line '*** START OF ...'")
        known, held_out = split_book(body[1].strip() + "\n")
        write_text(root / f"{name}.txt", known)
        write_text(root / "held_out" / f"{name}.txt", held_out)


def download_multi30k(root: Path) -> None:
    """Download Multi30k, and write its French-English pairs, one per line.

    Raises:
        UserError: the two languages differ in their number of lines.
    """
    for split, digest in PAIRS.items():
        sides = []
        for language in ("fr", "en"):
            path = root / "raw" / f"{RAW_PAIRS.get(split, split)}.{language}.gz"
            fetch(f"{MULTI30K}/{path.name}", path)
            sides.append(gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[:-1])
        if len(sides[0]) != len(sides[1]):
            raise UserError(f"{root / 'raw'}: {split}: {len(sides[0])} lines of French, {len(sides[1])} of English")
        pairs = root / f"{split}.fr-en.tsv"
        write_text(
            pairs, "".join(f"{french.strip()}\t{english.strip()}\n" for french, english in zip(*sides, strict=True))
        )
        if digest is not None and (found := compute_digest(pairs, "sha256")) != digest:
            print(f"{pairs}: {found}: not the pairs that the results come from ({digest})", file=sys.stderr)


def extract(archive: Path, root: Path, names: Sequence[str]) -> None:
    """Extract files from a tar archive into a folder, whatever their folders in the archive are.

    Raises:
        UserError: the archive is broken or lacks one of them.
    """
    missing = set(names)
    try:
        with tarfile.open(archive) as file:
            for member in file:
                name = Path(member.name).name
                content = file.extractfile(member) if name in missing else None
                if content is not None:
                    with replacing(root / name) as temporary:
                        temporary.write_bytes(content.read())
                    missing.remove(name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{archive}: cannot be unpacked: {error}") from error
    if missing:
        raise UserError(f"{archive}: there is no {min(missing)} in it")


def download_e2e(root: Path) -> None:
    """Download E2E: the original and the cleaned pairs of tables and texts."""
    for name, own in {"dev": "devset", "test": "testset_w_refs"}.items():
        fetch(f"{E2E}/{own}.csv", root / f"{name}.csv")
    for name, own in {"train": "train-fixed.no-ol", "dev": "devel-fixed.no-ol", "test": "test-fixed"}.items():
        fetch(f"{E2E_CLEANED}/{own}.csv", root / f"{name}_cleaned.csv")
    archive = root / "e2e_aligned.tar.gz"
    fetch(f"{E2E_TOKENIZED}/{archive.name}", archive)
    extract(archive, root, ["src_train.txt", "train.txt"])


def download_rotowire(root: Path) -> None:
    """Download RotoWire's games."""
    archive = root / "rotowire.tar.bz2"
    fetch(f"{ROTOWIRE}/{archive.name}", archive)
    extract(archive, root, ["train.json", "valid.json", "test.json"])


def download_rotowire_sentences(root: Path) -> None:
    """Download RotoWire's sentences with their records."""
    for split, folder in {"train": "train", "valid": "val", "test": "test"}.items():
        for part in ("x_type", "x_value", "x_associated", "y_aux"):
            name = f"{part}.{split}.txt"
            fetch(f"{ROTOWIRE_SENTENCES}/{folder}/{name}", root / name)


DOWNLOADS: dict[str, Callable[[Path], None]] = {
    "coco": partial(download_archives, name="coco"),
    "flickr8k": partial(download_archives, name="flickr8k"),
    "novels": download_novels,
    "multi30k": download_multi30k,
    "e2e": download_e2e,
    "rotowire": download_rotowire,
    "rotowire_sentences": download_rotowire_sentences,
}


@script
def main(arguments: list[str] | None = None) -> None:
    """Download the data set that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=DOWNLOADS, help="the data set")
    parser.add_argument("--root", type=Path, help="folder of the data set (default data/NAME)")
    options = parser.parse_args(arguments)
    root = options.root or Path("data") / options.name
    root.mkdir(parents=True, exist_ok=True)
    DOWNLOADS[options.name](root)


if __name__ == "__main__":
    main()
