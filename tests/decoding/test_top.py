import pytest
import torch

from attendgen.decoding.top import BLOCK, MANY, find_greatest


@pytest.mark.parametrize("numbers", [50, MANY, MANY + 1, MANY + BLOCK - 1])
@pytest.mark.parametrize("count", [1, 10, 40])
def test_the_greatest_numbers_are_those_of_a_sorted_row(numbers: int, count: int) -> None:
    values = torch.rand(3, numbers)
    values[1, 5:] = -torch.inf  # fewer numbers than are asked for
    values[2, 7:17] += 1  # all in one block
    found, places = find_greatest(values, count)
    ordered = values.sort(dim=1, descending=True).values
    assert found.equal(ordered[:, :count])
    assert values.gather(1, places).equal(found)
    assert all(len(set(row.tolist())) == count for row in places)
