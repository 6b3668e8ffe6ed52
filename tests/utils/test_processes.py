"""What two processes tell each other, and what one alone does."""

from typing import Any

import torch

from attendgen.utils.processes import add_up, average, gather_outputs, has_several_processes
from helpers.processes import join_group, run_ranks


def test_two_processes_add_average_and_gather() -> None:
    def tell(rank: int) -> Any:
        join_group(rank)
        own = torch.tensor([1.0, 10.0]) * (rank + 1)
        means = average({"a": own[0], "b": own[1]})
        return (
            add_up(own).tolist(),
            own.tolist(),
            {name: float(mean) for name, mean in means.items()},
            gather_outputs({rank: "x"}),
        )

    first, second = run_ranks(tell)
    assert first == ([3.0, 30.0], [1.0, 10.0], {"a": 1.5, "b": 15.0}, {0: "x", 1: "x"})
    assert second == ([3.0, 30.0], [2.0, 20.0], *first[2:])


def test_one_process_has_all() -> None:
    assert not has_several_processes()
    value = torch.tensor(3.0)
    assert average({"a": value}) == {"a": value}
    assert gather_outputs({3: "a", 1: "b"}) == {3: "a", 1: "b"}
