import pytest
import torch

from attendgen.data.batching import BucketSampler

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


@pytest.mark.parametrize("world", [2, 3, 5])
def test_shuffled_ranks_take_turns_at_the_batches_of_one_process(world):
    for epoch in range(4):
        ranks = []
        for rank in range(world):
            sampler = BucketSampler(LENGTHS, 4, rank=rank, world=world)
            sampler.set_epoch(epoch)
            ranks.append(list(sampler))
        whole = BucketSampler(LENGTHS, 4)
        whole.set_epoch(epoch)
        assert {len(batches) for batches in ranks} == {len(whole) // world}
        seen = [i for batches in ranks for batch in batches for i in batch]
        assert len(seen) == len(set(seen))
        assert len(LENGTHS) - len(seen) < 4 * world
        turns = [batch for turn in zip(*ranks, strict=True) for batch in turn]
        assert turns == list(whole)[: len(turns)]


def test_another_epoch_leaves_out_other_examples():
    assert len(LENGTHS) // 4 % 3 != 0  # whole batches must be left out
    left_out = []
    for epoch in range(3):
        seen = set()
        for rank in range(3):
            sampler = BucketSampler(LENGTHS, 4, rank=rank, world=3)
            sampler.set_epoch(epoch)
            seen |= {i for batch in sampler for i in batch}
        left_out.append(set(range(len(LENGTHS))) - seen)
    assert all(left_out)
    assert left_out[0] != left_out[1] != left_out[2]


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
