"""Speed and correctness of training and decoding on a GPU, in ten minutes.

python scripts/benchmarks/gpu.py --minutes 9 --out DIR

Everything is made up here: no data set and no download is needed. Each section runs in a process of its own with a
share of the time, so a crash costs a row. The rows are in DIR/gpu.json as soon as they are measured, the tables in
DIR/tables.txt, and what the sections print in DIR/gpu.log.

- ceilings: large products, a copy, the cost of a launch, cuDNN's LSTM.
- training: the training step of each family by batch size and precision. Milliseconds are medians of 20 steps. `busy%`
  is the share of the time in which kernels run, `mm%` and `copy%` compare the work with the ceilings, and `launch%` is
  the number of launches times the cost of one.
- overhead: Lightning and the callbacks against a bare loop.
- decoding: greedy, beam, sampling, minimum Bayes risk; whether the CPU decodes the same tokens.
- resume: whether an interrupted training ends with the same weights.
- half: 16-mixed and bf16-mixed against single precision.
- compiled: CUDA graphs and torch.compile.
- loading: the device's share of idle time while it waits for data.
- features: images per second through a frozen encoder, from memory and from files.
- ddp: one process with DistributedDataParallel.

The acceptance lines at the end say which of the requirements hold.
"""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_sections import ceilings, compiled, ddp, decoding, features, half, loading, overhead, resume, training
from gpu_sections.session import LOG, RESULTS, Session, add_rows, get_last_line, read_results, write_to_log
from gpu_sections.tables import Results, write_report

import attendgen
from attendgen.cli.script import script
from attendgen.utils.files import write_json, write_text

RESERVE = 20  # seconds kept for the tables and for rows that end late
GRACE = 15  # seconds after which a section that should have ended is ended
LEAST = 2  # seconds: a section with less is not begun
PRINTED = 9500  # characters
CUDA_IN_USE = 75  # exit code of a process that was forked after CUDA was used


class Section(NamedTuple):
    """A part of the benchmark, and its share of the time: the seconds that it takes if all of them have 500."""

    run: Callable[[Session], None]
    share: float


SECTIONS = {
    "ceilings": Section(ceilings.measure_ceilings, 15),
    "training": Section(training.measure_training, 160),
    "overhead": Section(overhead.measure_overhead, 60),
    "decoding": Section(decoding.measure_decoding, 20),
    "resume": Section(resume.measure_resume, 60),
    "ddp": Section(ddp.measure_ddp, 45),
    "half": Section(half.measure_half, 40),
    "compiled": Section(compiled.measure_compiled, 70),
    "loading": Section(loading.measure_loading, 80),
    "features": Section(features.measure_features, 30),
}


def run_alone(name: str, folder: Path, quick: bool, seconds: float) -> None:
    """Run a section in this process, which does nothing else; what it prints goes to the log."""
    os.setsid()  # so that its workers can be ended with it
    write_to_log(folder)
    print(f"\n===== {name}", flush=True)
    if quick:
        torch.set_num_threads(1)
    elif torch.cuda._is_in_bad_fork():
        os._exit(CUDA_IN_USE)
    try:
        SECTIONS[name].run(Session(name, folder, quick, seconds))
    except BaseException as error:
        traceback.print_exc()
        add_rows(folder, [{"section": name, "row": name, "error": get_last_line(error)}])


def run_section(name: str, folder: Path, quick: bool, seconds: float, method: str = "fork") -> None:
    """Run a section in a process of its own, and end it if it takes much longer than it may.

    A forked process need not import PyTorch again, but cannot use CUDA if something has used it here.
    """
    process: Any = multiprocessing.get_context(method).Process(  # type: ignore[attr-defined]  # of any method
        target=run_alone, args=(name, folder, quick, seconds)
    )
    process.start()
    process.join(seconds + GRACE)  # a row that has begun may end
    if process.is_alive():
        add_rows(folder, [{"section": name, "row": name, "error": f"ended after {seconds:.0f} s"}])
    elif process.exitcode == CUDA_IN_USE and method == "fork":
        run_section(name, folder, quick, seconds, "spawn")
    elif process.exitcode:
        add_rows(folder, [{"section": name, "row": name, "error": f"the process ended with {process.exitcode}"}])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that are left, too
    process.kill()
    process.join()


def find_commit() -> str:
    """Return the commit of the source, or nothing outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def digest_source() -> str:
    """Return a digest of the package that is measured: a copy of the repository may not know its commit."""
    root = Path(attendgen.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="time for all sections (default 9)")
    parser.add_argument("--out", type=Path, default=Path("gpu_benchmark"), help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes on the CPU, to test the script")
    return parser.parse_args()


@script
def main() -> None:
    """Run the sections and print the tables."""
    options = parse_options()
    started = time.monotonic()
    ends = started + 60 * options.minutes - RESERVE
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / LOG).unlink(missing_ok=True)
    versions = {"commit": find_commit(), "source": digest_source(), "torch": torch.__version__}
    write_json(options.out / RESULTS, {**versions, "rows": []})
    chosen = [name for name in SECTIONS if not options.only or name in options.only]
    for number, name in enumerate(chosen):
        # what a section does not use is left to the others
        part = SECTIONS[name].share / sum(SECTIONS[other].share for other in chosen[number:])
        seconds = part * (ends - time.monotonic())
        if seconds < LEAST:
            add_rows(options.out, [{"section": name, "row": name, "error": "skipped: the minutes are over"}])
            continue
        run_section(name, options.out, options.quick, seconds)
    found = read_results(options.out)
    results, seconds = Results(found["rows"]), time.monotonic() - started
    device = results.get("device", "ceilings", "device")
    title = f"PyTorch {found['torch']}, {device}, commit {found['commit']}, source {found['source']}"
    write_text(options.out / "tables.txt", f"{title}\n\n{write_report(results, seconds)}\n")
    print(f"{title}\n\n{write_report(results, seconds, PRINTED)}")


if __name__ == "__main__":
    main()
