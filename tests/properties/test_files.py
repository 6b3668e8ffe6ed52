"""Files of any content are read or refused in one line."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from attendgen.cli.image_lists import find_images
from attendgen.data.captions.boxes import read_word_boxes
from attendgen.data.captions.coco import Coco, Karpathy, TextCaps
from attendgen.data.captions.flickr import Flickr8k, FlickrCsv
from attendgen.data.captions.images import open_image
from attendgen.data.captions.json_lines import JsonLines
from attendgen.data.captions.precomputed import read_features
from attendgen.data.tables.json_lines import TableLines
from attendgen.data.tables.meaning_representations import MeaningRepresentations
from attendgen.data.tables.rotowire import PARTS, RotoWireGames, RotoWireSentences
from attendgen.data.tables.written import read_tables
from attendgen.data.tsv import read_aligned, read_pairs
from attendgen.postprocess.sgrvinod import read_word_map
from attendgen.text.levels import make_tokenizer
from attendgen.text.pretrained_embeddings import PretrainedEmbeddings
from attendgen.text.saved import describe
from attendgen.text.vocabulary import Vocabulary, load_vocabulary
from attendgen.utils.files import read_json, read_text, read_yaml
from attendgen.utils.lines import read_line_blocks
from helpers import tiny_tables
from helpers.random_inputs import check_refusals, draw_files

MANY = [pytest.param(10, id="few"), pytest.param(400, marks=pytest.mark.slow, id="many")]


class Reader(NamedTuple):
    """A function that reads a file of a name, and a valid file."""

    name: str
    read: Callable[[Path], Any]
    valid: bytes


def save(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 4}],
    "annotations": [{"image_id": 1, "caption": "A dog", "category_id": 1, "bbox": [0, 0, 1, 1]}],
    "categories": [{"id": 1, "name": "dog"}],
}
KARPATHY = {"images": [{"filename": "a.jpg", "split": "train", "imgid": 1, "sentences": [{"raw": "A dog"}]}]}
TEXTCAPS = {"data": [{"image_id": "a", "caption_str": "A dog", "reference_strs": ["A dog"]}]}
TABLE = {"rows": [{"name": "A", "cells": {"PTS": 17, "REB": [1, "b"]}}], "text": "A dog"}
LINE = {"image": "a.jpg", "captions": ["A dog"], "split": "train"}
SUBWORDS = Vocabulary.build(["low lower lowest"], tokenizer=make_tokenizer("bpe", vocab_size=12))
GAME = tiny_tables.make_game(*tiny_tables.PLAYERS[:2])
RESULTS = b"image_name| comment_number| comment\na.jpg| 0| A dog\na.jpg| 1 A cat"
PNG = save(lambda file: Image.new("P", (3, 3)).save(file, "PNG"))
JPEG = save(lambda file: Image.new("L", (9, 9)).save(file, "JPEG", exif=b"Exif\0\0II*\0"))
WORDS = dump({"tokens": ["a"], "level": "words", "normalizer": "none"})


def split(kind: Callable[[str], Callable[[str], Any]]) -> Callable[[Path], Any]:
    return lambda path: kind(str(path.parent))("train")


def read_sentences(path: Path) -> Any:
    for part in PARTS:
        path.with_name(f"{part}.txt").write_bytes(path.read_bytes())
    return RotoWireSentences()([path.with_name("{part}.txt")])


def read_vectors(path: Path) -> Any:
    return PretrainedEmbeddings(str(path)).read(Vocabulary(["a", "b"], "words"), 2)


READERS = {
    "lines": Reader("a.txt", lambda path: list(read_line_blocks(path)), b"A dog\nA cat"),
    "pairs": Reader("a.tsv", read_pairs, b"A dog\tUn chien\nA cat\tUn chat"),
    "columns": Reader("a.tsv", lambda path: read_pairs(path, columns=(2, 4)), b"1\tA dog\t2\tUn chien"),
    "aligned": Reader("a.txt", lambda path: read_aligned(path, path), b"A dog\nA cat"),
    "json": Reader("a.json", read_json, b'{"a": [1, 2.5, null]}'),
    "yaml": Reader("a.yaml", read_yaml, b"a: [1, {b: null}]"),
    "text": Reader("a.txt", read_text, "é".encode("utf-16")),
    "vectors": Reader("a.txt", read_vectors, b"2 2\na 1 2"),
    "features": Reader("a.npy", read_features, save(lambda file: np.save(file, np.ones((2, 3))))),
    "zipped features": Reader("a.npz", read_features, save(lambda file: np.savez(file, x=np.ones((2, 3))))),
    "image": Reader("a.png", open_image, PNG),
    "photo": Reader("a.jpg", open_image, JPEG),
    "JSON lines": Reader("captions.jsonl", split(JsonLines), dump(LINE)),
    "captions.txt": Reader("captions.txt", split(FlickrCsv), b'image,caption\na.jpg,"A dog, a cat"'),
    "results.csv": Reader("results.csv", split(FlickrCsv), RESULTS),
    "Flickr8k": Reader("Flickr8k.token.txt", split(lambda root: Flickr8k(root, lists=None)), b"a.jpg#0\tA dog"),
    "COCO": Reader("captions.json", split(lambda root: Coco(root, annotations="captions.json")), dump(COCO)),
    "boxes": Reader("boxes.json", read_word_boxes, dump(COCO)),
    "Karpathy": Reader("dataset_coco.json", split(Karpathy), dump(KARPATHY)),
    "TextCaps": Reader("TextCaps_0.1_train.json", split(TextCaps), dump(TEXTCAPS)),
    "list of images": Reader("a.txt", lambda path: list(find_images([], str(path))), b"a.jpg\nb.jpg"),
    "images of COCO": Reader("a.json", lambda path: list(find_images([], str(path))), dump(COCO)),
    "tables": Reader("a.jsonl", lambda path: TableLines()([path]), dump(TABLE)),
    "E2E": Reader("a.csv", lambda path: MeaningRepresentations()([path]), b'mr,ref\n"name[A], food[B]",A serves B'),
    "aligned E2E": Reader("a.txt", lambda path: MeaningRepresentations()([path, path]), b"__start_a__ A __end_a__"),
    "games": Reader("a.json", lambda path: RotoWireGames()([path]), dump([GAME])),
    "sentences": Reader("x.txt", read_sentences, b"PTS REB\nPTS"),
    "tables to write about": Reader("a.json", read_tables, dump([TABLE])),
    "CSV to write about": Reader("a.csv", read_tables, b'mr\n"name[A], food[B]"'),
    "vocabulary": Reader("vocabulary.json", load_vocabulary, dump(describe(SUBWORDS))),
    "words": Reader("vocabulary.json", load_vocabulary, WORDS),
    "word map": Reader("WORDMAP.json", read_word_map, dump({"a": 1, "<unk>": 2, "<start>": 3, "<end>": 4, "<pad>": 0})),
}  # fmt: skip


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize("name", READERS)
def test_files_are_read_or_refused(tmp_path: Path, name: str, count: int) -> None:
    reader = READERS[name]
    path = tmp_path / reader.name

    def read(content: bytes) -> None:
        path.write_bytes(content)
        reader.read(path)

    read(reader.valid)  # or the parts that are replaced are not those of a valid file
    check_refusals(read, draw_files(reader.valid), count=count)
