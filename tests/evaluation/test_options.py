"""What a change of an evaluated run's config cannot do."""

import pytest

from attendgen.data.parallel import ParallelDataModule
from attendgen.data.tables.module import TableDataModule
from attendgen.evaluation.options import require_own_vocabulary
from attendgen.runs.run import Run
from helpers.errors import refusal


@pytest.mark.parametrize(
    ("name", "module", "change", "own"),
    [
        ("toy-chat", ParallelDataModule, "data.level=words", "level=characters"),
        ("toy-chat", ParallelDataModule, "data.source_normalizer=letters", "source_normalizer=fold"),
        ("e2e", TableDataModule, "data.delexicalise=['name']", "delexicalise=[]"),
    ],
)
def test_settings_of_the_vocabulary_are_refused(name, module, change, own):
    run = Run.find(name)
    message = refusal(require_own_vocabulary, run, run.override([change]), module.vocabulary_fields)
    assert message.startswith(f"{change}: belongs to the vocabulary, which was built with {own}; leave it out")


def test_other_settings_may_be_changed():
    run = Run.find("e2e")
    require_own_vocabulary(run, run.override(["data.max_cells=9"]), TableDataModule.vocabulary_fields)
