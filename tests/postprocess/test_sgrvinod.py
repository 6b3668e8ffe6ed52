"""Checkpoints of sgrvinod's tutorial are imported as runs that caption as its equations do, and never executed."""

import collections
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attendgen.inference.load import load
from attendgen.postprocess.importing import import_run
from attendgen.postprocess.sgrvinod import read_word_map
from helpers.errors import Command, refusal
from helpers.tutorial import WORDS, decode_plainly, make_word_map, rank_plainly, save_tutorial, tutorial_modules

STEPS = 20


def import_tutorial(folder: Path) -> None:
    import_run("sgrvinod", [folder / "BEST.pth.tar", folder / "WORDMAP.json"], folder / "run")


@pytest.mark.parametrize("legacy", [pytest.param(True, marks=pytest.mark.slow), False], ids=["legacy", "zip"])
def test_an_imported_captioner_follows_the_tutorial_s_equations(tmp_path: Path, legacy: bool) -> None:
    weights = save_tutorial(tmp_path, legacy)
    assert "models" not in sys.modules
    import_tutorial(tmp_path)
    assert "models" not in sys.modules
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    model = load(tmp_path / "run")

    with tutorial_modules() as (encoder, _), torch.no_grad():
        encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")})
        scaled = torch.from_numpy(pixels).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        grid = encoder.adaptive_pool(encoder.resnet(((scaled - mean) / std).unsqueeze(0)))
        features = grid[0].flatten(1).T
        torch.testing.assert_close(
            model.model.encode_images(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0],
            features,
            atol=1e-4,
            rtol=1e-4,
        )
        words, log_probs, alphas = decode_plainly(weights, features, STEPS)
        ranked = rank_plainly(weights, features)
    result = model.caption(tmp_path / "a.png", beam_size=1, max_length=STEPS, min_length=STEPS)[0]
    names = {index: name for name, index in make_word_map().items()}
    end = make_word_map()["<end>"]
    expected = [names[word] for word in words]
    if end in words[:-1]:
        pytest.fail("the random decoder ends early; take other weights")
    assert result.tokens == expected
    assert len(set(expected)) > 1
    probabilities = [float(scored[word]) for scored, word in zip(log_probs, words, strict=True)]
    np.testing.assert_allclose(result.log_probs, probabilities, atol=1e-4)
    np.testing.assert_allclose(result.attention, torch.stack(alphas).numpy(), atol=1e-4)
    # a beam of five finds the best of all captions of three tokens
    found = model.caption(tmp_path / "a.png", beam_size=5, n_best=5, max_length=3)
    assert found[0].tokens == [{**names, end: "<eos>"}[token] for token in ranked[0][1]]
    np.testing.assert_allclose(found[0].score, ranked[0][0], atol=1e-4)
    scores = [score for score, _ in ranked]
    for outcome in found:
        assert min(abs(outcome.score - score) for score in scores) < 1e-4


@pytest.mark.slow
def test_state_dicts_with_the_same_names_are_read(tmp_path: Path) -> None:
    weights = save_tutorial(tmp_path, legacy=False)
    import_tutorial(tmp_path)
    expected = load(tmp_path / "run").model.state_dict()
    parts = {part: collections.OrderedDict() for part in ("encoder", "decoder")}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    for number, state in enumerate((weights, parts, {f"{name}_state_dict": value for name, value in parts.items()})):
        folder = tmp_path / str(number)
        folder.mkdir()
        torch.save(state, folder / "BEST.pth.tar")
        (folder / "WORDMAP.json").write_text((tmp_path / "WORDMAP.json").read_text())
        import_tutorial(folder)
        found = load(folder / "run").model.state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_word_maps_have_special_words_of_several_names(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps(make_word_map(("<PAD>", "<UNK>", "<s>", "</s>"))))
    order, vocabulary = read_word_map(path)
    ids = make_word_map()
    assert order == [ids["<pad>"], ids["<start>"], ids["<end>"], ids["<unk>"], *(ids[word] for word in WORDS)]
    assert vocabulary.tokens == ("<pad>", "<sos>", "<eos>", "<unk>", *WORDS)
    for words, message in (
        ([1], "not a word map"),
        ({"a": 1}, "not a word map"),
        ({"a": "x"}, "not a word map"),
        ({"a": 0}, "no word for <pad>"),
    ):
        path.write_text(json.dumps(words))
        assert message in refusal(read_word_map, path)


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


class WithState:
    """An object of a class of one's own, with a state that is set."""

    def __setstate__(self, state: object) -> None:
        raise AssertionError("executed")

    def __getstate__(self) -> dict[str, int]:
        return {"x": 1}


class OwnDict(collections.OrderedDict):
    """A subclass of what is allowed."""


HOSTILE = {
    "os.system": lambda trace: Call(os.system, f"touch {trace}"),
    "eval": lambda trace: Call(eval, f"open({str(trace)!r}, 'w')"),
    "open": lambda trace: Call(open, str(trace), "w"),
    "getattr": lambda _: Call(getattr, "os", "system"),
    "a class of one's own": lambda _: WithState(),
    "a subclass of OrderedDict": lambda _: OwnDict(a=1),
    "a loaded file": lambda trace: Call(torch.load, str(trace)),
    "a nested call": lambda trace: {"encoder": [Call(os.mkdir, str(trace))]},
    "a foreign rebuild": lambda _: Call(torch._utils._rebuild_device_tensor_from_numpy, np.zeros(3), "f", "cpu", False),
    "a rebuild of a path": lambda trace: {"encoder": Call(torch._utils._rebuild_tensor_v2, str(trace), 0, (1,), (1,))},
    "an ordered dict of a text": lambda _: {"encoder": Call(collections.OrderedDict, "ab")},
}


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_ends_in_one_line_and_leaves_no_trace(tmp_path: Path, kind: str, legacy: bool) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "BEST.pth.tar"
    value = HOSTILE[kind](trace)
    value = value if isinstance(value, dict) else {"encoder": value, "decoder": 0}
    buffer = collections.deque()  # pickled as it is: the calls are not made here
    buffer.append(value)
    torch.save(buffer.pop(), path, _use_new_zipfile_serialization=not legacy)
    (tmp_path / "WORDMAP.json").write_text(json.dumps(make_word_map()))
    before = sorted(tmp_path.iterdir())
    message = refusal(import_tutorial, tmp_path)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert sorted(tmp_path.iterdir()) == before


PROGRAMS = {
    "empty": b"",
    "text": b"hello",
    "a plain pickle": pickle.dumps({"encoder": 1}),
    "a stack that is empty": b"\x80\x02.",
    "a memo that is empty": b"\x80\x02h\x05.",
    "a global by two texts": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "a dotted global": b"\x80\x04\x8c\x0ctorch._utils\x8c\x09os.system\x93.",
    "an extension": b"\x80\x02\x82\x01.",
    "an instance": b"(ios\nsystem\n.",
    "a state of a list": b"\x80\x02]}b.",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_broken_file_ends_in_one_line(tmp_path: Path, kind: str) -> None:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    (tmp_path / "WORDMAP.json").write_text(json.dumps(make_word_map()))
    for data in (PROGRAMS[kind], magic + PROGRAMS[kind]):
        (tmp_path / "BEST.pth.tar").write_bytes(data)
        message = refusal(import_tutorial, tmp_path)
        assert message.startswith(f"{tmp_path / 'BEST.pth.tar'}: ")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("legacy", [True, False])
def test_a_truncated_file_ends_in_one_line(tmp_path: Path, legacy: bool, share: float) -> None:
    save_tutorial(tmp_path, legacy)
    path = tmp_path / "BEST.pth.tar"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert refusal(import_tutorial, tmp_path).startswith(f"{path}: ")


def test_a_word_map_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    save_tutorial(tmp_path, legacy=False)
    words = make_word_map()
    (tmp_path / "WORDMAP.json").write_text(json.dumps({**words, "more": len(words)}))
    assert "decoder.embedding.weight has 11 rows, but the word map has 12 words" in refusal(import_tutorial, tmp_path)


def test_the_command_names_the_files_that_it_needs(tmp_path: Path, attendgen: Command) -> None:
    outcome = attendgen("import", "sgrvinod", tmp_path / "a", "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "expected CHECKPOINT WORDMAP" in outcome.err
