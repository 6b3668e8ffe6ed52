import lightning
import pytest
import torch
from torch.utils.data import Dataset

from attendgen.data.batch import PairBatch
from attendgen.data.loader import Loader, batch_loader
from attendgen.data.samplers import BucketSampler
from attendgen.utils.errors import UserError

LENGTHS = torch.randint(1, 60, (137,), generator=torch.Generator().manual_seed(1)).tolist()


def spread(batches: list[list[int]]) -> float:
    """The mean difference between the longest and the shortest example of a batch."""
    spans = [max(LENGTHS[i] for i in batch) - min(LENGTHS[i] for i in batch) for batch in batches]
    return sum(spans) / len(spans)


@pytest.mark.parametrize("batch_size", [1, 4, 136, 137, 200])
def test_unshuffled_batches_hold_every_example_once_by_length(batch_size):
    order = [i for batch in BucketSampler(LENGTHS, batch_size, shuffle=False) for i in batch]
    assert sorted(order) == list(range(len(LENGTHS)))
    assert [LENGTHS[i] for i in order] == sorted(LENGTHS)


@pytest.mark.parametrize("batch_size", [1, 4, 200])
def test_shuffled_batches_of_one_process_hold_every_example_once(batch_size):
    batches = list(BucketSampler(LENGTHS, batch_size))
    assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))
    assert max(map(len, batches)) == min(batch_size, len(LENGTHS))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 7, 12, 13, 136])
def test_the_length_is_the_number_of_batches(size, world, shuffle):
    for batch_size in (1, 3, 8):
        for rank in range(world):
            sampler = BucketSampler(LENGTHS[:size], batch_size, 0, shuffle, pool=2, rank=rank, world=world)
            for epoch in range(3):
                sampler.set_epoch(epoch)
                assert len(list(sampler)) == len(sampler)


@pytest.mark.parametrize("size", [7, 12, 13, 136, 137])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_shuffled_ranks_see_every_example_once_in_equally_many_batches(world, size):
    for epoch in range(4):
        ranks = []
        for rank in range(world):
            sampler = BucketSampler(LENGTHS[:size], 4, pool=3, rank=rank, world=world)
            sampler.set_epoch(epoch)
            ranks.append(list(sampler))
        assert len({len(batches) for batches in ranks}) == 1
        batches = [batch for batches in ranks for batch in batches]
        assert sorted(i for batch in batches for i in batch) == list(range(size))
        sizes = {len(batch) for batch in batches}
        assert max(sizes) <= 4
        assert max(sizes) - min(sizes) <= 1


def test_fewer_examples_than_processes_make_no_batch():
    assert [len(BucketSampler(LENGTHS[:2], 4, rank=rank, world=3)) for rank in range(3)] == [0, 0, 0]
    assert list(BucketSampler(LENGTHS[:2], 4, world=3)) == []


@pytest.mark.parametrize("world", [2, 3, 50])
def test_unshuffled_ranks_share_out_every_example(world):
    ranks = [list(BucketSampler(LENGTHS, 4, shuffle=False, rank=rank, world=world)) for rank in range(world)]
    seen = [i for batches in ranks for batch in batches for i in batch]
    assert sorted(seen) == list(range(len(LENGTHS)))


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[list[int]]:
        torch.rand(seed + epoch + 1)  # the global generator must not matter
        sampler = BucketSampler(LENGTHS, 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 0) != order(0, 1)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(1, 0)


def test_iterating_twice_gives_the_same_epoch():
    sampler = BucketSampler(LENGTHS, 4)
    assert list(sampler) == list(sampler)


def test_lengths_in_a_batch_are_close():
    bucketed = spread(list(BucketSampler(LENGTHS, 4, pool=50)))
    # sorted as a whole, the spans of disjoint batches add up to the full range at most
    assert bucketed <= (max(LENGTHS) - min(LENGTHS)) / len(BucketSampler(LENGTHS, 4))
    unsorted = spread(list(BucketSampler(LENGTHS, 4, pool=1)))
    assert bucketed < spread(list(BucketSampler(LENGTHS, 4, pool=8))) < unsorted


def test_short_batches_do_not_always_come_last():
    places = set()
    sampler = BucketSampler(LENGTHS, 4)
    for epoch in range(10):
        sampler.set_epoch(epoch)
        places.add(next(place for place, batch in enumerate(sampler) if len(batch) < 4))
    assert len(places) > 1


def collate(indices: list[int]) -> PairBatch:
    """A pair for each index, whose target has as many symbols as its length."""
    index = torch.tensor(indices)
    return PairBatch(index, index.unsqueeze(1), *shift_targets([[4] * LENGTHS[i] for i in indices]))


class Indices(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index


def loader(group: int, workers: int = 0) -> Loader:
    return Loader(Indices(), BucketSampler(LENGTHS, 10), group, collate_fn=collate, num_workers=workers)


@pytest.mark.parametrize("group", [1, 3, 4])
def test_a_batch_is_given_the_totals_of_its_group(group):
    batches = list(loader(group))
    assert len(batches) == 14
    for first in range(0, len(batches), group):
        indices = torch.cat([batch.index for batch in batches[first : first + group]]).tolist()
        for batch in batches[first : first + group]:
            symbols = sum(LENGTHS[i] + 1 for i in indices)  # and <eos>
            assert [number.item() for number in batch.totals] == [len(indices), len(indices), symbols]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("group", [0, 3])
def test_a_loader_goes_on_where_its_state_says(group, workers):
    straight = loader(group)
    straight.batch_sampler.sampler.set_epoch(5)
    wanted = [batch.index.tolist() for batch in straight]
    halted = loader(group)
    halted.batch_sampler.sampler.set_epoch(5)
    batches = iter(halted)
    begun = [next(batches).index.tolist() for _ in range(6)]
    resumed = loader(group, workers)
    resumed.load_state_dict(halted.state_dict())
    going = iter(resumed)  # Lightning asks for the iterator before it sets the epoch
    resumed.batch_sampler.sampler.set_epoch(5)
    assert begun + [batch.index.tolist() for batch in going] == wanted
    assert len(resumed) == len(wanted), "the length is that of a whole epoch"
    assert [batch.index.tolist() for batch in resumed] == wanted, "only the first epoch is shortened"


def test_the_state_of_another_epoch_skips_nothing():
    resumed = loader(1)
    resumed.load_state_dict({"epoch": 0, "batches": 6})
    resumed.batch_sampler.sampler.set_epoch(1)
    assert len(list(resumed)) == len(resumed)


def test_a_loader_without_a_batch_is_a_mistake():
    with pytest.raises(UserError, match=r"data\.batch_size: fewer batches than processes"):
        batch_loader(lightning.LightningDataModule(), Indices(), BucketSampler([1], 4, world=2), collate, True)
