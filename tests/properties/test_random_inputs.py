"""Random files, values and overrides end in a result or in one line, never in a traceback.

Each case is drawn from a seed, so that a failure names the seed that repeats it.
"""

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from attendgen.config.literals import quote_arguments
from attendgen.config.overrides import override_config
from attendgen.data.captions.coco import Coco, Karpathy, TextCaps
from attendgen.data.captions.flickr import Flickr8k, FlickrCsv
from attendgen.data.captions.json_lines import JsonLines
from attendgen.data.captions.precomputed import read_features
from attendgen.data.tsv import read_pairs
from attendgen.runs.run import Run
from attendgen.text.pretrained_embeddings import PretrainedEmbeddings
from attendgen.text.vocabulary import Vocabulary, vocabulary_from_dict
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_yaml
from attendgen.utils.lines import read_line_blocks
from helpers.runs import SharedRuns

MANY = [pytest.param(40, id="few"), pytest.param(2000, marks=pytest.mark.slow, id="many")]

CHARACTERS = "abcé日क्👨\u200d🇫\u0301\ufeff \t\n\r\u2028\0'\"\\,;:=|#&~$%@!?*(){}[]<>-+._/0123456789"
NAMES = ["tokens", "level", "normalizer", "source", "target", "images", "annotations", "id", "image_id", "file_name"]
NAMES += ["caption", "captions", "split", "image", "data", "_target_", "dataset", "sentences", "raw", "caption_str"]


def draw_text(rng: random.Random, most: int = 60) -> str:
    return "".join(rng.choices(CHARACTERS, k=rng.randrange(most)))


def draw_value(rng: random.Random, depth: int = 3) -> Any:
    """Return plain data as JSON has it; the names of fields are those that readers look for."""
    kind = rng.randrange(8 if depth else 6)
    plain: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.randrange(-3, 10 ** rng.randrange(20)),
        lambda: rng.choice([0.5, -1e300, float("inf"), float("nan")]),
        lambda: draw_text(rng, 12),
        lambda: rng.choice(["characters", "words", "attendgen.text.Vocabulary", "os.system", "train", "a.jpg"]),
    ]
    if kind < 6:
        return plain[kind]()
    values = [draw_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return values if kind == 6 else {rng.choice(NAMES): value for value in values}


def draw_bytes(rng: random.Random) -> bytes:
    """Return the content of a file: a text in some encoding, JSON, or anything."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(80))
    if kind == 1:
        return json.dumps(draw_value(rng)).encode()
    if kind == 2:
        rows = [rng.choice("\t,| ").join(draw_text(rng, 8) for _ in range(rng.randrange(5))) for _ in range(5)]
        return "\n".join(rows).encode(rng.choice(["utf-8", "utf-16", "utf-8-sig", "gb18030"]), "replace")
    return "\n".join(json.dumps(draw_value(rng)) for _ in range(3)).encode()


def draw_all(count: int) -> Iterator[tuple[int, random.Random]]:
    return ((seed, random.Random(seed)) for seed in range(count))


def attempt(seed: int, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function, which may refuse its input; the command line prints that as one line."""
    try:
        with contextlib.suppress(UserError):
            function(*arguments)
    except Exception as error:
        pytest.fail(f"seed {seed}: {type(error).__name__}: {error}")


def read_lines(path: Path) -> list[list[str]]:
    return list(read_line_blocks(path))


def read_embeddings(path: Path) -> object:
    return PretrainedEmbeddings(str(path)).read(Vocabulary(["a", "b"], "words"), 3)


READERS = {"lines": read_lines, "pairs": read_pairs, "json": read_json, "yaml": read_yaml, "vectors": read_embeddings}
READERS |= {"features": read_features}


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize("name", READERS)
def test_readers_of_one_file(tmp_path: Path, name: str, count: int) -> None:
    path = tmp_path / f"file.{'npy' if name == 'features' else 'txt'}"
    for seed, rng in draw_all(count):
        path.write_bytes(draw_bytes(rng))
        attempt(seed, READERS[name], path)


SOURCES = {
    "captions.jsonl": JsonLines,
    "captions.txt": FlickrCsv,
    "Flickr8k.token.txt": Flickr8k,
    "annotations/captions_train2017.json": Coco,
    "dataset_coco.json": Karpathy,
    "TextCaps_0.1_train.json": TextCaps,
}


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize("name", SOURCES)
def test_sources_of_captions(tmp_path: Path, name: str, count: int) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("a.jpg\n")
    for seed, rng in draw_all(count):
        path.write_bytes(draw_bytes(rng))
        attempt(seed, lambda: SOURCES[name](str(tmp_path))("train"))


@pytest.mark.parametrize("count", MANY)
def test_vocabularies(count: int) -> None:
    for seed, rng in draw_all(count):
        attempt(seed, vocabulary_from_dict, draw_value(rng), "vocabulary.json")
        text = draw_text(rng)
        for level in ("characters", "words", "caption", "pretokenized"):
            for normalizer in ("none", "raw", "nfkd", "fold", "letters", "printable"):
                vocabulary = Vocabulary.build([draw_text(rng)], level=level, normalizer=normalizer)
                attempt(seed, vocabulary.encode_known, text, "text")
                vocabulary.decode(vocabulary.encode(text))


@pytest.mark.parametrize("count", MANY)
def test_runs(runs: SharedRuns, tmp_path: Path, count: int) -> None:
    folder = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    names = ["config.yaml", "vocabulary.json", "checkpoints/best.ckpt"]
    for seed, rng in draw_all(count // 4):
        broken = folder / rng.choice(names)
        whole = broken.read_bytes()
        cut = rng.randrange(len(whole))
        broken.write_bytes(
            rng.choice([draw_bytes(rng), whole[:cut], whole[:cut] + rng.randbytes(4) + whole[cut + 4 :]])
        )
        attempt(seed, lambda: Run.find(folder).load_model())
        broken.write_bytes(whole)
        name = draw_text(rng, 20)
        if "\0" not in name and not Path(name or ".").exists():
            attempt(seed, Run.find, name)


KEYS = ["data.root", "data.batch_size", "model.hidden", "model", "name", "data.none", "+new", "~name", "", "a b"]


@pytest.mark.parametrize("count", MANY)
def test_overrides(count: int) -> None:
    config = OmegaConf.create({"data": {"root": "a", "batch_size": 3}, "model": {"hidden": 4}, "name": None})
    parser = OverridesParser.create()
    for seed, rng in draw_all(count):
        value = draw_text(rng, 12)
        attempt(seed, override_config, config, [f"{rng.choice(KEYS)}={value}"])
        attempt(seed, quote_arguments, [f"name={value}"], False)
        if value and not value.startswith(("'", '"', "[", "{")) and "$" not in value:  # a path, as it is written
            (quoted,) = quote_arguments([f"data.root={value}"], False)
            (parsed,) = parser.parse_overrides([quoted])
            assert parsed.key_or_group == "data.root", f"seed {seed}"
