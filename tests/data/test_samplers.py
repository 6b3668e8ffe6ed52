import pytest
import torch

from attendgen.data.samplers import BucketSampler, count_even_batches, split_evenly

LENGTHS = torch.randint(1, 60, (137,), generator=torch.Generator().manual_seed(1)).tolist()


def compute_spread(batches: list[list[int]]) -> float:
    """Return the mean difference between the longest and the shortest example of a batch."""
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
def test_length_is_the_number_of_batches(size, world, shuffle):
    for batch_size in (1, 3, 8):
        for rank in range(world):
            sampler = BucketSampler(LENGTHS[:size], batch_size, 0, shuffle, pool=2, rank=rank, world=world)
            for epoch in range(3):
                sampler.set_epoch(epoch)
                missing = len(sampler) - len(list(sampler))
                assert missing == 0 or (missing == 1 and rank > 0 and not shuffle)


@pytest.mark.parametrize("size", [7, 12, 13, 136, 137])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_shuffled_ranks_see_every_example_once_in_batches_of_even_size(world, size):
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


def test_fewer_examples_than_processes_give_no_batch():
    assert [len(BucketSampler(LENGTHS[:2], 4, rank=rank, world=3)) for rank in range(3)] == [0, 0, 0]
    assert list(BucketSampler(LENGTHS[:2], 4, world=3)) == []


@pytest.mark.parametrize("world", [2, 3, 50])
def test_unshuffled_ranks_see_every_example_once(world):
    ranks = [list(BucketSampler(LENGTHS, 4, shuffle=False, rank=rank, world=world)) for rank in range(world)]
    seen = [i for batches in ranks for batch in batches for i in batch]
    assert sorted(seen) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("examples", [1, 2, 4, 5, 13, 137])
def test_an_evaluation_is_cut_evenly_and_all_ranks_have_one_length(examples, world):
    ranks = [BucketSampler(LENGTHS[:examples], 4, shuffle=False, rank=rank, world=world) for rank in range(world)]
    assert len({len(sampler) for sampler in ranks}) == 1
    counts = [len(list(sampler)) for sampler in ranks]
    assert max(counts) == len(ranks[0])
    assert max(counts) - min(counts) <= (1 if examples % world else 0)
    sizes = {len(batch) for sampler in ranks for batch in sampler}
    assert max(sizes) <= 4
    assert max(sizes) - min(sizes) <= 1


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


def test_second_iteration_repeats_the_epoch():
    sampler = BucketSampler(LENGTHS, 4)
    assert list(sampler) == list(sampler)


def test_larger_pools_have_closer_lengths_in_a_batch():
    bucketed = compute_spread(list(BucketSampler(LENGTHS, 4, pool=50)))
    # sorted as a whole, the spans of disjoint batches add up to the full range at most
    assert bucketed <= (max(LENGTHS) - min(LENGTHS)) / len(BucketSampler(LENGTHS, 4))
    unsorted = compute_spread(list(BucketSampler(LENGTHS, 4, pool=1)))
    assert bucketed < compute_spread(list(BucketSampler(LENGTHS, 4, pool=8))) < unsorted


def test_place_of_the_short_batch_varies():
    places = set()
    sampler = BucketSampler(LENGTHS, 4)
    for epoch in range(10):
        sampler.set_epoch(epoch)
        places.add(next(place for place, batch in enumerate(sampler) if len(batch) < 4))
    assert len(places) > 1


@pytest.mark.parametrize("world", [1, 2, 3])
def test_even_batches_are_the_fewest_that_divide_by_the_processes(world):
    for examples in range(30):
        for batch_size in (1, 3, 8):
            fits = (n for n in range(world, examples + 1, world) if n * batch_size >= examples)
            assert count_even_batches(examples, batch_size, world) == next(fits, 0)


def test_even_parts_are_contiguous():
    for end in range(5, 20):
        for parts in range(1, 8):
            ranges = split_evenly(5, end, parts)
            assert [i for part in ranges for i in part] == list(range(5, end))
            assert len(ranges) == parts
            assert max(map(len, ranges)) - min(map(len, ranges)) <= 1
