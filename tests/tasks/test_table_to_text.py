"""The loss, decoding and scores of a task that writes texts about tables."""

import itertools
from functools import partial

import pytest
import torch

from attendgen.data.batch import TableBatch, pad_cells, shift_targets
from attendgen.decoding.config import DecodingConfig
from attendgen.evaluation.evaluate import evaluate
from attendgen.layers.attention import GeneralAttention
from attendgen.layers.records import RecordEncoder
from attendgen.layers.tables import Cell, Row
from attendgen.models.table_to_text import TableToText
from attendgen.optim.schedules import Constant
from attendgen.runs.run import Run
from attendgen.tasks.table_to_text import TableTask
from attendgen.text.table_vocabulary import TableVocabulary
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError

TARGET = Vocabulary(["in", "it", "rains", "Oslo", "New", "Haven"], "words")
VOCABULARY = TableVocabulary(["city", "sky"], [], ["Oslo", "New", "Haven", "rainy"], TARGET, words=2)
TABLES = [
    (Row("city", (Cell("city", "", "New Haven"),)), Row("sky", (Cell("sky", "", "rainy"),))),
    (Row("city", (Cell("city", "", "Oslo"),)),),
]
TEXTS = ["it rains in New Haven", "Oslo"]


def make(copy: str = "mixture", **options) -> TableTask:
    encoder = partial(RecordEncoder, dim=6, embedding_dim=4)
    sizes = {"embedding_dim": 5, "hidden": 6, "copy": copy}
    model = TableToText(**VOCABULARY.sizes(), encoder=encoder, attention=GeneralAttention, **sizes)
    optimizer = partial(torch.optim.SGD, lr=0.1)
    task = TableTask(model, VOCABULARY, optimizer, Constant(), DecodingConfig(max_length=6), **options)
    task.log = lambda *arguments, **settings: None  # no trainer here
    return task.eval()


@pytest.fixture
def batch() -> TableBatch:
    cells = pad_cells([VOCABULARY.encode(table) for table in TABLES])
    return TableBatch(torch.tensor([3, 1]), cells, *shift_targets([TARGET.encode(text) for text in TEXTS]))


def compute_nll(task: TableTask, number: int, smoothing: float) -> float:
    """Return the negative log-likelihood of a text and <eos>, step by step, one table at a time."""
    memory, state = task.model.encode(pad_cells([VOCABULARY.encode(TABLES[number])]))
    ids, nll = [1, *TARGET.encode(TEXTS[number]), 2], 0.0
    for previous, current in itertools.pairwise(ids):
        log_probs, _, state = task.model.step(torch.tensor([previous]), state, memory)
        nll -= ((1 - smoothing) * log_probs[0, current] + smoothing * log_probs[0].mean()).item()
    return nll


@pytest.mark.parametrize(("copy", "smoothing"), [("none", 0.0), ("mixture", 0.2)])
def test_training_loss_is_the_mean_over_all_words(batch, copy, smoothing):
    task = make(copy, label_smoothing=smoothing)
    expected = sum(compute_nll(task, number, smoothing) for number in range(2)) / (6 + 2)
    assert task.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-5)


def test_the_switch_is_supervised_where_a_word_is_that_of_a_cell(batch):
    task = make(switch_weight=0.5)
    terms, loss = task.compute_loss(batch)
    switch = torch.sigmoid(task.model.force(batch.cells, batch.inputs).switch)
    copied = [[False, False, False, True, True, False], [True, False]]
    expected = 0.0
    for row, words in enumerate(copied):
        for t, is_copied in enumerate(words):
            expected -= (switch[row, t] if is_copied else 1 - switch[row, t]).log().item() / 8
    assert terms["switch"].value.item() == pytest.approx(expected, rel=1e-5)
    assert loss.item() == pytest.approx(terms["cross_entropy"].value.item() + 0.5 * expected, rel=1e-5)


def test_decoding_equals_that_of_each_table_alone(batch):
    task = make()
    together = task.generate(batch)
    for row, table in enumerate(TABLES):
        alone = batch._replace(index=batch.index[:1], cells=pad_cells([VOCABULARY.encode(table)]))
        found = task.generate(alone)
        assert TARGET.to_tokens(found.tokens[0, 0].tolist()) == TARGET.to_tokens(together.tokens[row, 0].tolist())


def test_sources_describe_the_cells(batch):
    assert make().list_sources(batch) == [["city New", "city Haven", "sky rainy"], ["city Oslo"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "task.label_smoothing=1.0"),
        ({"switch_weight": -1.0}, "task.switch_weight=-1.0: expected 0 or more"),
        ({"switch_weight": 1.0, "copy": "none"}, "the model does not copy; set model.copy=mixture"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def test_a_run_writes_about_each_table_once_and_chooses_by_facts(runs, tmp_path):
    metrics = "task.metrics=[{_target_: attendgen.metrics.SlotErrors}]"
    run = runs("toy_weather", "data.delexicalise=[city]", metrics, "monitor.metric=val/ser", "monitor.mode=min")
    assert Run.find(run).family == "table"
    scores = [evaluate(run, out=tmp_path / str(facts), beam_size=8, facts=facts) for facts in (False, True)]
    assert scores[1]["ser"] <= scores[0]["ser"]
    for facts in (False, True):
        text = next((tmp_path / str(facts)).glob("outputs_val*.txt")).read_text()
        assert text.count("\n") == 18
        assert "X_city" not in text
