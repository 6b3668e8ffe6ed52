"""Decoding of each family, and whether a GPU decodes the same tokens as the CPU."""

import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.layers.state import count_rows, map_tensors
from decoding import LENGTHS, Family, build_families
from gpu_sections.families import build_task, get_family, make_batch
from gpu_sections.measure import count_syncs, describe_syncs, set_precision
from gpu_sections.session import Row, Session

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam 5": {"beam_size": 5},
    "sampling": {"temperature": 0.7},
    "beam 20, MBR of 100": {"beam_size": 20, "length_penalty": 1.2, "mbr_samples": 100},
}
COMPARED = 8  # inputs that the CPU decodes, too
LM = "language model"


def measure_decoding(session: Session) -> None:
    """Decode with each method in single precision and with weights in bfloat16."""
    set_precision("fp32")
    torch.manual_seed(0)
    lengths = session.choose([LENGTHS[0], 200, LENGTHS[2]], [3, 3, 3])
    families = {**build_families(lengths), "tables": build_table_family(session)}
    for dtype in (torch.float32, torch.bfloat16)[: session.choose(2, 1)]:
        for search in SEARCHES:
            for name, family in families.items():
                if name == LM and "beam" in search:
                    continue  # language models sample or decode greedily
                kind = str(dtype).removeprefix("torch.")
                session.attempt(
                    name,
                    partial(measure_search, session, name, family, search, dtype),
                    least=3,
                    search=search,
                    dtype=kind,
                )


def build_table_family(session: Session) -> Family:
    """Build a model of tables that copies words, of the size of the experiment e2e."""
    task, _ = build_task("table", session.quick)
    family = get_family("table", session.quick)

    def make_inputs(number: int) -> Any:
        batch: Any = make_batch("table", -(-number // family.batch), quick=session.quick)
        return map_tensors(lambda part: part[:number], batch.cells)

    return Family(task.model, make_inputs, session.choose(family.length, 3))


@torch.inference_mode()
def measure_search(session: Session, name: str, family: Family, search: str, dtype: torch.dtype) -> Row:
    """Return outputs per second, waits for the device per token, and the share of outputs that the CPU decodes, too."""
    torch.manual_seed(1)
    inputs = family.make_inputs(session.choose(64, 4))
    settings = {key: min(value, session.choose(value, 3)) for key, value in SEARCHES[search].items()}
    config = DecodingConfig(max_length=family.length, **settings)
    compared = map_tensors(lambda part: part[:COMPARED], inputs)
    row: Row = {"length": family.length, "inputs": count_rows(inputs)}
    is_exact = dtype == torch.float32 and not config.samples_outputs and not config.mbr_samples
    expected = run(family.model.float().cpu().eval(), name, compared, config) if is_exact else None
    model = family.model.to(session.device, dtype).eval()

    def move(part: Tensor) -> Tensor:
        return part.to(session.device, dtype if part.is_floating_point() else None)

    inputs, compared = map_tensors(move, inputs), map_tensors(move, compared)
    found = run(model, name, compared, config).cpu()  # also warms up
    if expected is not None:
        row["equal_to_cpu"] = float((found == expected).all(dim=-1).float().mean())
    with count_syncs(session.device) as places:
        run(model, name, inputs, config)
    seconds = []
    for _ in range(1 if config.mbr_samples else 3):
        started = time.perf_counter()
        run(model, name, inputs, config).cpu()
        seconds.append(time.perf_counter() - started)
    row |= {"ms": round(1e3 * min(seconds), 2), "outputs_per_second": round(row["inputs"] / min(seconds), 1)}
    syncs = describe_syncs(places)
    return {**row, **syncs, "syncs_per_token": round(syncs["syncs"] / family.length, 2)}


def run(model: Any, name: str, inputs: Any, config: DecodingConfig, graphs: DecodingGraphs | None = None) -> Tensor:
    """Return the best output of each input."""
    memory, state = model.encode(inputs)
    text: dict[str, Any] = {"prefix": inputs[:, -1]} if name == LM else {}
    return decode(model, memory, state, config, eos_id=None, graphs=graphs, **text).tokens[:, 0]
