from unittest.mock import Mock

import lightning
import pytest
import torch
from torch.utils.data import Dataset

from attendgen.data.batch import PairBatch, shift_targets
from attendgen.data.loader import BatchSizes, Loader, make_batch_loader, require_positive, split_chunks
from attendgen.data.samplers import BucketSampler
from helpers.errors import refusal

LENGTHS = torch.randint(1, 60, (137,), generator=torch.Generator().manual_seed(1)).tolist()


def collate(indices: list[int]) -> PairBatch:
    """Return a pair per index, whose target has as many tokens as its length."""
    index = torch.tensor(indices)
    return PairBatch(index, index.unsqueeze(1), *shift_targets([[4] * LENGTHS[i] for i in indices]))


class Indices(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index


def make_loader(group: int, workers: int = 0) -> Loader:
    return Loader(Indices(), BucketSampler(LENGTHS, 10), group, collate_fn=collate, num_workers=workers)


@pytest.mark.parametrize("group", [1, 3, 4])
def test_batch_has_the_totals_of_its_group(group):
    batches = list(make_loader(group))
    assert len(batches) == 14
    for first in range(0, len(batches), group):
        indices = torch.cat([batch.index for batch in batches[first : first + group]]).tolist()
        for batch in batches[first : first + group]:
            tokens = sum(LENGTHS[i] + 1 for i in indices)  # and <eos>
            assert [number.item() for number in batch.totals] == [len(indices), len(indices), tokens]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("group", [0, 3])
def test_loader_resumes_at_its_state(group, workers):
    straight = make_loader(group)
    straight.batch_sampler.sampler.set_epoch(5)
    wanted = [batch.index.tolist() for batch in straight]
    halted = make_loader(group)
    halted.batch_sampler.sampler.set_epoch(5)
    batches = iter(halted)
    begun = [next(batches).index.tolist() for _ in range(6)]
    resumed = make_loader(group, workers)
    resumed.load_state_dict(halted.state_dict())
    going = iter(resumed)  # Lightning asks for the iterator before it sets the epoch
    resumed.batch_sampler.sampler.set_epoch(5)
    assert begun + [batch.index.tolist() for batch in going] == wanted
    assert len(resumed) == len(wanted), "the length is that of a whole epoch"
    assert [batch.index.tolist() for batch in resumed] == wanted, "only the first epoch is shortened"


def test_state_of_another_epoch_skips_nothing():
    resumed = make_loader(1)
    resumed.load_state_dict({"epoch": 0, "batches": 6})
    resumed.batch_sampler.sampler.set_epoch(1)
    assert len(list(resumed)) == len(resumed)


def test_no_batch_is_refused():
    sampler = BucketSampler([1], 4, world=2)
    message = refusal(make_batch_loader, lightning.LightningDataModule(), Indices(), sampler, collate, True)
    assert message.startswith("data.batch_size: fewer batches than processes")


def test_a_process_without_examples_has_a_loader_as_long_as_the_others():
    loaders = []
    for rank in range(3):
        sampler = BucketSampler([1, 2], 4, shuffle=False, rank=rank, world=3)
        loaders.append(make_batch_loader(lightning.LightningDataModule(), Indices(), sampler, collate, False))
    assert [len(loader) for loader in loaders] == [1, 1, 1]
    assert [[batch.index.tolist() for batch in loader] for loader in loaders] == [[[0]], [[1]], []]


def test_the_batch_of_a_step_is_divided_among_devices_and_accumulated_batches():
    sizes = BatchSizes(32, global_batch_size=48)
    assert [sizes.choose(True, world, accumulated) for world, accumulated in ((1, 1), (4, 1), (4, 3))] == [48, 12, 4]
    assert sizes.choose(False, 4, 3) == 32
    assert BatchSizes(32, 256).choose(False) == 256
    assert BatchSizes(32, 256).choose(True, 4) == 32
    message = refusal(sizes.choose, True, 5, 2)
    assert message.startswith("data.global_batch_size=48: does not divide by 5 devices x 2 accumulated batches")


@pytest.mark.parametrize("field", ["batch_size", "eval_batch_size", "global_batch_size"])
def test_a_batch_size_below_1_is_refused(field: str):
    assert refusal(BatchSizes, **{"batch_size": 3, field: 0}) == f"data.{field}=0: expected a whole number from 1"


@pytest.mark.parametrize(("device", "pinned"), [("cuda:1", True), ("cpu", False)])
def test_batches_are_pinned_if_the_trainer_is_on_a_gpu(monkeypatch: pytest.MonkeyPatch, device: str, pinned: bool):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    module = lightning.LightningDataModule()
    module.trainer = Mock(accumulate_grad_batches=1)
    module.trainer.strategy.root_device = torch.device(device)
    sampler = BucketSampler(LENGTHS, 4)
    assert make_batch_loader(module, Indices(), sampler, collate, True).pin_memory == pinned


def test_chunks_have_one_size_but_the_last():
    assert list(split_chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(split_chunks([], 3)) == []


def test_numbers_below_1_are_refused():
    require_positive(batch_size=1, seq_len=9)
    assert refusal(require_positive, batch_size=1, seq_len=0) == "data.seq_len=0: expected a whole number from 1"
