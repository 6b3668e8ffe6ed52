"""The script that downloads data sets, with a server on this machine."""

import gzip
import importlib.util
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from helpers.file_server import Server, make_zip, serve_files, sha256


@pytest.fixture
def server() -> Iterator[Server]:
    with serve_files({}) as server:
        yield server


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "download_data.py"
    spec = importlib.util.spec_from_file_location("download_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flickr8k_has_the_layout_of_the_experiments(script, server, tmp_path, monkeypatch):
    texts, images = script.ARCHIVES["flickr8k"]
    server.files = {
        "Flickr8k_text.zip": make_zip(**dict.fromkeys(texts.members, "x"), readme="y"),
        "Flickr8k_Dataset.zip": make_zip(Flicker8k_Dataset__a="1", _MACOSX__b="2"),
    }
    local = tuple(
        one._replace(url=f"{server.url}/{name}", digest=sha256(data))
        for one, (name, data) in zip((texts, images), server.files.items(), strict=True)
    )
    monkeypatch.setitem(script.ARCHIVES, "flickr8k", local)
    for _ in range(2):
        script.main(["flickr8k", "--root", str(tmp_path)])
    assert list_names(tmp_path) == {*texts.members, "Images", "downloads.lock.json"}
    assert len(server.asked) == 2


def test_multi30k_is_written_as_pairs(script, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "MULTI30K", server.url)
    server.files = {
        f"{split}.{language}.gz": gzip.compress(text.encode())
        for split in ("train", "val", "test_2016_flickr")
        for language, text in (("fr", "Un chien.\nDeux \n"), ("en", "A dog.\nTwo\n"))
    }
    script.main(["multi30k", "--root", str(tmp_path)])
    assert (tmp_path / "train.fr-en.tsv").read_text() == "Un chien.\tA dog.\nDeux\tTwo\n"
    assert "not the pairs that the results come from" in capsys.readouterr().err


def test_shared_pairs_have_the_expected_digests(script, shared):
    for split in ("train", "val"):
        digest = script.PAIRS[split]
        assert sha256((shared / f"data/multi30k/{split}.fr-en.tsv").read_bytes()) == digest


def make_tar(**files: str) -> bytes:
    """A compressed tar archive; two underscores in a name stand for a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def test_e2e_has_the_names_of_its_config(script, server, tmp_path, monkeypatch, capsys):
    for name in ("E2E", "E2E_CLEANED", "E2E_TOKENIZED"):
        monkeypatch.setattr(script, name, server.url)
    names = ("devset", "testset_w_refs", "train-fixed.no-ol", "devel-fixed.no-ol", "test-fixed")
    server.files = {f"{name}.csv": name.encode() for name in names}
    server.files["e2e_aligned.tar.gz"] = make_tar(**{"e2e__src_train.txt": "tables", "e2e__train.txt": "texts"})
    script.main(["e2e", "--root", str(tmp_path)])
    assert (tmp_path / "test.csv").read_text() == "testset_w_refs"
    assert (tmp_path / "train_cleaned.csv").read_text() == "train-fixed.no-ol"
    assert [(tmp_path / name).read_text() for name in ("src_train.txt", "train.txt")] == ["tables", "texts"]


def test_an_archive_of_games_without_a_split_is_refused(script, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "ROTOWIRE", server.url)
    server.files = {"rotowire.tar.bz2": make_tar(**{"rotowire__train.json": "[]", "rotowire__valid.json": "[]"})}
    with pytest.raises(SystemExit):
        script.main(["rotowire", "--root", str(tmp_path)])
    assert "rotowire.tar.bz2: there is no test.json in it" in capsys.readouterr().err


def test_novels_lose_their_license_and_their_last_paragraphs_are_held_out(script, server, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "GUTENBERG", server.url)
    paragraphs = [f"Paragraph {number}.\n" for number in range(10, 50)]
    book = "\n".join(
        ["Title\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n", *paragraphs, "*** END OF THE PROJECT ***"]
    )
    server.files = {f"pg{number}.txt": book.encode() for number in script.NOVELS.values()}
    script.main(["novels", "--root", str(tmp_path)])
    assert {path.stem for path in tmp_path.glob("*.txt")} == set(script.NOVELS)
    # 40 paragraphs of equal length: 95 % are 38, and the last of these ends a character later than 95 %
    assert (tmp_path / "dracula.txt").read_text() == "\n".join(paragraphs[:37])
    assert (tmp_path / "held_out" / "dracula.txt").read_text() == "\n".join(paragraphs[37:])


def test_missing_book_ends_with_one_line(script, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "GUTENBERG", server.url)
    with pytest.raises(SystemExit) as caught:
        script.main(["novels", "--root", str(tmp_path)])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
