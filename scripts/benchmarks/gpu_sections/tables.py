"""The tables of a run, and the lines that say whether it is as it should be."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gpu_sections.session import UNMEASURED, Row

CEILINGS = {"fp32": "fp32", "tf32": "tf32", "bf16-mixed": "bf16", "16-mixed": "fp16"}


def format_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a plain table; rich may not be installed where the benchmark runs."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


class Results:
    """The rows of a run."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def find(self, section: str, *names: str, **labels: Any) -> list[Row]:
        """Return the rows of a section without an error that have one of these names and all of these labels."""
        return [
            row
            for row in self.rows
            if row["section"] == section
            and "error" not in row
            and (not names or row["row"] in names)
            and all(row.get(key) == value for key, value in labels.items())
        ]

    def get(self, figure: str, section: str, *names: str, **labels: Any) -> Any:
        """Return a figure of the first such row, or None."""
        found = self.find(section, *names, **labels)
        return found[0].get(figure) if found else None

    def compute_shares(self, row: Row) -> dict[str, float | None]:
        """Return which shares of a training step's time the ceilings explain."""
        flops = self.get("flops_per_second", "ceilings", f"product {CEILINGS[row['precision']]}")
        copied = self.get("bytes_per_second", "ceilings", "copy")
        launch = self.get("microseconds", "ceilings", "launch")
        seconds, launches = row["ms"] / 1e3, row.get("launches") or row.get("operations")
        return {
            "matmul": row["flops"] / seconds / flops if flops and "flops" in row else None,
            "copy": row["bytes"] / seconds / copied if copied and "bytes" in row else None,
            "launch": launches * launch / 1e6 / seconds if launch and launches else None,
            "busy": row["busy_ms"] / row["ms"] if "busy_ms" in row else None,
        }


def percent(share: float | None) -> str:
    """Return a share for a table."""
    return "" if share is None else f"{100 * share:.1f}"


def list_training(results: Results, **labels: Any) -> str:
    """Return the table of training steps."""
    header = [
        "family",
        "batch",
        "precision",
        "ms",
        "ex/s",
        "GB",
        "launches",
        "syncs",
        "busy%",
        "mm%",
        "copy%",
        "launch%",
    ]
    rows = []
    for row in results.find("training", **labels):
        shares = results.compute_shares(row)
        figures = [row["row"], row["batch"], row["precision"], f"{row['ms']:.2f}", f"{row['examples_per_second']:,.0f}"]
        figures += [row.get("peak_gb", ""), row.get("launches", row.get("operations", "")), row["syncs"]]
        rows.append([*figures, *(percent(shares[name]) for name in ("busy", "matmul", "copy", "launch"))])
    return format_table(header, rows)


def list_section(results: Results, section: str, columns: Sequence[str]) -> str:
    """Return a table of some figures of a section's rows."""
    rows = [[row["row"], *(shorten(row.get(column, "")) for column in columns)] for row in results.find(section)]
    return format_table(("", *columns), rows)


def shorten(value: Any) -> str:
    """Return a figure for a table."""
    if isinstance(value, float) and abs(value) >= 1e6:
        return f"{value:.3g}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


ORDER = (
    "ceilings",
    "training",
    "overhead",
    "resume",
    "decoding",
    "compiled",
    "half",
    "loading",
    "features",
    "ddp",
    "rates",
)
COLUMNS = {
    "ceilings": ("ms", "flops_per_second", "bytes_per_second", "microseconds", "pytorch", "run_lstm"),
    "overhead": ("family", "ms"),
    "decoding": ("search", "dtype", "ms", "outputs_per_second", "syncs_per_token", "equal_to_cpu"),
    "resume": ("deterministic", "repeated_identical", "resumed_identical", "resumed_first", "resumed_largest"),
    "half": ("family", "precision", "finite", "skipped", "scale", "loss_ratio", "cosine", "least_cosine", "norm_ratio"),
    "compiled": ("family", "times", "beam", "plain_ms", "ms", "gain", "compile_seconds", "gradient_gap", "equal"),
    "loading": ("batch", "workers", "ms", "resident_ms", "loader_alone_ms", "idle_share"),
    "features": ("source", "batch", "workers", "ms", "images_per_second", "read_per_second"),
    "ddp": ("plain_ms", "ms", "identical", "first"),
}


def check_lstm(results: Results) -> tuple[bool, str]:
    """Check A1."""
    found = results.get("run_lstm", "ceilings", "lstm under autocast(bf16)")
    plain = results.get("pytorch", "ceilings", "lstm under autocast(bf16)")
    return found in ("float32", "bfloat16"), f"run_lstm {found}, PyTorch's own {plain}"


def check_syncs(results: Results) -> tuple[bool, str]:
    """Check that the captioner's step does not wait for the device."""
    syncs = results.get("syncs", "training", "soft_7x7x1280", precision="bf16-mixed", times=1)
    return syncs == 0, f"{syncs}"


def check_average(results: Results) -> tuple[bool, str]:
    """Check the cost of the moving average."""
    cost = results.get("ms", "overhead", "average alone", family="soft_7x7x1280")
    return cost is not None and cost < 1, "not measured" if cost is None else f"{cost:.3f} ms"


def check_resume(results: Results) -> tuple[bool, str]:
    """Check that resumed trainings end with the same weights if operations are deterministic."""
    found = {kind: results.find("resume", deterministic=kind) for kind in (True, False)}
    counts = {kind: f"{sum(row['resumed_identical'] for row in rows)} of {len(rows)}" for kind, rows in found.items()}
    passed = bool(found[True]) and all(row["resumed_identical"] for row in found[True])
    return passed, f"{counts[True]} with deterministic=true, {counts[False]} without"


def check_half(results: Results) -> tuple[bool, str]:
    """Check that losses and weights stay finite in half precision."""
    rows = results.find("half", "training")
    scales = [f"scale {row['scale']:g}, {row['skipped']} skipped" for row in rows if "scale" in row]
    return bool(rows) and all(row["finite"] for row in rows), "; ".join(scales) or "not measured"


def check_ddp(results: Results) -> tuple[bool, str]:
    """Check that all trainings with DDP ran, and that one resumed as it should."""
    rows = [row for row in results.rows if row["section"] == "ddp"]
    errors = [row["row"] for row in rows if "error" in row and not row["error"].startswith(UNMEASURED)]
    identical = results.get("identical", "ddp", "resume lm_lstm")
    passed = not errors and bool(identical)
    return passed, f"resume identical: {identical}; failed: {', '.join(errors) or 'none'}"


CHECKS: dict[str, Callable[[Results], tuple[bool, str]]] = {
    "A1 lstm dtype": check_lstm,
    "soft step syncs == 0": check_syncs,
    "average ms < 1": check_average,
    "resume identical": check_resume,
    "fp16 finite": check_half,
    "DDP ok": check_ddp,
}


def list_acceptance(results: Results) -> str:
    """Return a line per check and per family."""
    lines = []
    for name, check in CHECKS.items():
        passed, figure = check(results)
        lines.append(f"{'pass' if passed else 'FAIL'}  {name}: {figure}")
    for name in dict.fromkeys(row["row"] for row in results.find("training")):
        parts = []
        for times in (1, 16):
            for row in results.find("training", name, precision="bf16-mixed", times=times):
                shares = results.compute_shares(row)
                launches = row.get("launches", row.get("operations"))
                of_product, of_copy = percent(shares["matmul"]), percent(shares["copy"])
                part = f"{of_product} % of matmul, {of_copy} % of copy, {launches} launches"
                parts.append(f"batch {row['batch']}: {part}")
        lines.append(f"{name}: {'; '.join(parts)}")
    return "\n".join(lines)


def list_errors(results: Results) -> str:
    """Return a line per error."""
    failed = [row for row in results.rows if "error" in row]
    lines = []
    for row in failed:
        labels = [f"{value}" for key, value in row.items() if key not in ("section", "row", "error")]
        lines.append(f"{row['section']}: {' '.join([row['row'], *labels])}: {row['error'][:160]}")
    return "\n".join(lines)


def write_report(results: Results, seconds: float, limit: int | None = None) -> str:
    """Return the tables and the acceptance lines.

    Args:
        limit: of the characters: tables that do not fit are left out, the least important first.
    """
    labels = {} if limit is None else {"precision": "bf16-mixed", "times": 1}
    tables = {section: list_section(results, section, columns) for section, columns in COLUMNS.items()}
    tables["training"] = list_training(results, **labels)
    tables["rates"] = list_rates(results)
    found = {section: tables[section] for section in ORDER if "\n" in tables[section]}
    acceptance = f"== acceptance, {len(results.rows)} rows in {seconds:.0f} s\n{list_acceptance(results)}"
    errors = list_errors(results)
    last = [f"== errors\n{errors}"[: limit and limit // 3]] * bool(errors) + [acceptance]
    while True:
        report = "\n\n".join([*(f"== {section}\n{table}" for section, table in found.items()), *last])
        if limit is None or len(report) <= limit or not found:
            return report[:limit]
        found.popitem()


def list_rates(results: Results) -> str:
    """Return examples per second by family and batch, in all precisions that were measured."""
    rows = []
    for name, batch in dict.fromkeys((row["row"], row["batch"]) for row in results.find("training")):
        rates = []
        for precision in CEILINGS:
            rate = results.get("examples_per_second", "training", name, batch=batch, precision=precision)
            rates.append("" if rate is None else f"{rate:,.0f}")
        rows.append([name, batch, *rates])
    return format_table(("family", "batch", *CEILINGS), rows) if rows else ""
