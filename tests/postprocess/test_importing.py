"""Checkpoints of Text-Generation are imported as runs that predict as the original code does."""

import json
import string
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from attendgen.evaluation.evaluate import evaluate
from attendgen.inference.load import load
from attendgen.postprocess.importing import import_run
from attendgen.runs.run import Run
from helpers.errors import refusal

HIDDEN = 6


def save_published(path: Path, **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Write a small state dict as the published code saves it."""
    model = nn.ModuleDict(
        {
            "encoder": nn.Embedding(100, HIDDEN),
            "lstm": nn.LSTM(HIDDEN, HIDDEN, 2, bidirectional=True),
            "decoder": nn.Linear(2 * HIDDEN, HIDDEN),
            "out": nn.Linear(HIDDEN, 100),
        }
    )
    weights = {**model.state_dict(), **changes}
    weights = {name: weight for name, weight in weights.items() if weight is not None}
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    return weights


def refuse(path: Path, kind: str = "textgenerate") -> str:
    """Return the message of an import that writes nothing."""
    message = refusal(import_run, kind, [path], path.parent / "run")
    assert not (path.parent / "run").exists()
    return message


def test_imported_run_predicts_as_the_original_equations(tmp_path: Path):
    weights = save_published(tmp_path / "model.pt")
    import_run("textgenerate", [tmp_path / "model.pt"], tmp_path / "run")
    model = load(tmp_path / "run")
    text = "Élan, “it was” the best"
    scored = model.score(text[:4], text[4:])
    assert scored.text == ', "it was" the best'
    ids = torch.tensor([[string.printable.index(c) for c in 'Elan, "it was" the best']])
    lstm = nn.LSTM(HIDDEN, HIDDEN, 2, bidirectional=True, batch_first=True)
    lstm.load_state_dict({name[5:]: weight for name, weight in weights.items() if name.startswith("lstm.")})
    state, expected = None, []
    for character in ids[:, :-1].unbind(1):
        output, state = lstm(weights["encoder.weight"][character].unsqueeze(1), state)
        inner = output[0, 0] @ weights["decoder.weight"].T + weights["decoder.bias"]
        expected.append((inner @ weights["out.weight"].T + weights["out.bias"]).log_softmax(dim=-1))
    wanted = torch.stack(expected).gather(1, ids[0, 1:, None])[3:, 0]
    torch.testing.assert_close(torch.from_numpy(scored.log_probs), wanted.detach(), atol=1e-5, rtol=0)


def test_imported_run_continues_and_scores_texts(tmp_path: Path):
    save_published(tmp_path / "model.pt")
    import_run("textgenerate", [tmp_path / "model.pt"], tmp_path / "run")
    run = Run.find(tmp_path / "run")
    assert set(load(run).generate("A", max_length=40, temperature=1.0, seed=1)[0].text) <= set(string.printable)
    (tmp_path / "text.txt").write_text("“Où?”\n", encoding="utf-8")
    scores = evaluate(run, texts=[tmp_path / "text.txt"])
    assert scores["characters"] == 6
    assert scores["unknown_characters"] == 0
    assert json.loads((tmp_path / "run" / "metrics_text.json").read_text()) == scores
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["hidden"] == HIDDEN


def test_wrong_files_are_named(tmp_path: Path):
    path = tmp_path / "model.pt"
    assert refuse(path).startswith(f"{path}: no such file")
    path.write_bytes(b"PK\x03\x04 nothing")
    assert refuse(path).startswith(f"{path}: broken")
    torch.save([1, 2], path)
    assert refuse(path).startswith(f"{path}: not a state dict")
    save_published(path, **{"out.bias": None})
    assert "out.bias: missing" in refuse(path)
    save_published(path, **{"encoder.weight": torch.zeros(90, HIDDEN)})
    assert "encoder.weight: (90, 6)" in refuse(path)
    save_published(path, **{"decoder.weight": torch.zeros(3, 3)})
    assert refuse(path).startswith(f"{path}: weights of another model")
    assert "sgrvinod" in refuse(path, "sgrvinod")


def test_file_that_would_run_code_is_refused(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"encoder.weight": Evil()}, tmp_path / "model.pt")
    assert refuse(tmp_path / "model.pt").startswith(f"{tmp_path / 'model.pt'}: broken")
    assert not (tmp_path / "touched").exists()


def test_run_is_not_overwritten(tmp_path: Path):
    save_published(tmp_path / "model.pt")
    import_run("textgenerate", [tmp_path / "model.pt"], tmp_path / "run")
    message = refusal(import_run, "textgenerate", [tmp_path / "model.pt"], tmp_path / "run")
    assert "holds a run already" in message


@pytest.mark.slow
def test_published_weights_score_their_own_training_text(shared: Path, tmp_path: Path):
    import_run("textgenerate", [shared / "checkpoints" / "textgenerate_novels.pt"], tmp_path / "run")
    run = Run.find(tmp_path / "run")
    scores = evaluate(run, texts=sorted((shared / "data" / "novels").glob("*.txt")))
    assert scores["bits_per_character"] == pytest.approx(2.05, abs=0.03)  # references.md
