"""The command line: attendgen train | evaluate | generate | caption | import | ensemble | merge | calibrate | runs."""

import inspect
import math
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attendgen.errors import Diverged, Interrupted, UserError

if TYPE_CHECKING:
    from attendgen.listing import Listed

# torch and Lightning are imported by the commands: --help must not wait for them

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, compare and look inside attention-based text generators.",
)

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run directory, a .ckpt file, or a bundled model's name.")
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE ...]", help="Changes of the run's config, as decoding.beam=5 or data.root=DIR."),
]
MadeRun = Annotated[Path, typer.Option(metavar="RUN", help="The run directory to make.")]
Beam = Annotated[int | None, typer.Option(min=1, help="Beam width; 1 is greedy.")]
NBest = Annotated[int | None, typer.Option(min=1, help="Outputs to print: of the beam, or samples.")]
Alpha = Annotated[float | None, typer.Option(min=0.0, help="Length penalty ((5 + length) / 6)^alpha of the beam.")]
Average = Annotated[bool | None, typer.Option("--average", help="Rank the beam by log-probability a symbol.")]
Coverage = Annotated[
    float | None, typer.Option(min=0.0, help="Weight of the beam's penalty for source symbols that are not looked at.")
]
Consensus = Annotated[
    int | None, typer.Option(min=0, help="Rank the beam by likeness to this many samples, not by probability.")
]
NeighbourCount = Annotated[
    int | None,
    typer.Option(
        "--neighbours", min=0, help="Rank the beam by likeness to the captions of this many training pictures, too."
    ),
]
NoRepeat = Annotated[int | None, typer.Option(min=0, help="No n-gram of this many symbols may come twice.")]
Temperature = Annotated[float | None, typer.Option(help="Sample, from softmax(log p / temperature).")]
TopK = Annotated[int | None, typer.Option(min=1, help="Sample among the k likeliest symbols.")]
TopP = Annotated[float | None, typer.Option(help="Sample from the likeliest symbols of this probability mass.")]
MinLength = Annotated[int | None, typer.Option(min=1, help="Fewest symbols of an output, <eos> included.")]
MaxLength = Annotated[int | None, typer.Option(min=1, help="Most symbols of an output, <eos> included.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the samples.")]


def _trust_packages(packages: list[str] | None) -> list[str] | None:
    from attendgen.trust import trust

    trust(packages or [])
    return packages


Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        callback=_trust_packages,
        help="Let the run name classes of this Python package, whose code is then run; may be given several times.",
    ),
]


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def train(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]")] = None,
) -> int:
    """Train a model: attendgen train experiment=NAME [key=value ...] [-m]."""
    arguments = arguments or []
    if "--help" in arguments or "-h" in arguments:
        print_train_help()
        return 0
    from attendgen.training import run_hydra

    sweep = run_hydra(arguments)
    return 0 if sweep is None else print_sweep(sweep)


def print_sweep(folder: Path) -> int:
    """What came of a sweep; exit code 1 if a trial failed."""
    from attendgen.listing import find_runs

    trials = find_runs(folder)
    print_runs(trials)
    trained = sum(trial.error is None for trial in trials)
    print(f"{trained} of {len(trials)} trials trained; again: attendgen runs {folder}")
    return 0 if trained == len(trials) else 1


def print_runs(found: list["Listed"]) -> None:
    """A table of runs, one over their seeds, and the best."""
    from attendgen.listing import best_of, over_seeds, runs_table, seeds_table

    print_table(["run", "experiment", "settings", "score", "started"], runs_table(found))
    if groups := over_seeds(found):
        print_table(["settings", "score", "seeds", "mean", "deviation", "failed"], seeds_table(groups))
    best = best_of(found)
    if best is not None and len(found) > 1:
        print(f"best: {best.folder} ({best.metric} {best.score:.4g})")


def print_train_help() -> None:
    """What can be trained and changed."""
    from attendgen.resources import conf_dir

    print("Usage: attendgen train experiment=NAME [KEY=VALUE ...] [-m]\n")
    print("Trains what the config describes, in outputs/NAME/<date_time>/. A Hydra application:")
    print("  attendgen train experiment=toy_chat epochs=20     change any setting")
    print("  attendgen train -m experiment=toy_chat seed=1,2,3             one run for each value")
    print("  attendgen train sweep=toy_chat                                search with Optuna")
    print("  attendgen train experiment=toy_chat --cfg job                 print the config, train nothing")
    print("  attendgen train resume=RUN                                    continue an interrupted run")
    print("  attendgen train resume=RUN --trust PACKAGE                    ... that names code of this package\n")
    for group in ("experiment", "ablation", "sweep", "trainer", "data", "model", "task", "decoding"):
        names = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
        print(f"{group}=  {' '.join(names)}")
    print("\n--hydra-help lists Hydra's own options.")


@app.command(context_settings={"ignore_unknown_options": False})
def evaluate(
    run: RunArgument,
    arguments: Changes = None,
    split: Annotated[str, typer.Option(help="train, val (or dev) or test.")] = "val",
    out: Annotated[
        Path | None, typer.Option(help="Where to write scores and outputs; default: the run directory.")
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="Score a language model on text files instead of a split.")
    ] = None,
    dynamic: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="Score a language model once more while it learns at this rate from the text."
        ),
    ] = None,
    dynamic_decay: Annotated[
        float, typer.Option(metavar="SHARE", help="How far each step of --dynamic goes back to the trained weights.")
    ] = 0.0,
    trust: Trust = None,
) -> None:
    """Score a trained model; prints a table and writes metrics_<split>.json and the outputs."""
    texts = list(text or [])
    overrides = []
    for argument in arguments or []:
        if text and "=" not in argument:
            texts.append(Path(argument))  # --text A B C
        else:
            overrides.append(argument)

    from attendgen.evaluation import evaluate as score
    from attendgen.runs import Run

    found = Run.find(run)
    config = found.overridden(overrides)
    scores = score(found, config, split, out, texts, dynamic, dynamic_decay)
    print_table(["score", "value"], [[name, f"{value:.6g}"] for name, value in scores.items()])


@app.command()
def generate(
    run: RunArgument,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="Sources to answer or translate, or contexts.")
    ] = None,
    prompt_file: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A text file that holds one more source or context.")
    ] = None,
    beam: Beam = None,
    n_best: NBest = None,
    alpha: Alpha = None,
    average: Average = None,
    coverage: Coverage = None,
    consensus: Consensus = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_length: MinLength = None,
    max_length: MaxLength = None,
    no_repeat: NoRepeat = None,
    seed: Seed = None,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Write faster, with rounded log-probabilities (language models).")
    ] = False,
    score: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="Generate nothing; print this output's log-probability instead."),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save a heat map of the first output's attention (png, pdf, svg)."),
    ] = None,
    trust: Trust = None,
) -> None:
    """Answer, translate or continue texts; a single continuation appears as it is made."""
    given = search_options(locals())
    import torch

    from attendgen import plotting
    from attendgen.files import read_text
    from attendgen.inference import PictureCaptioner, TextGenerator, load

    texts = [*(texts or []), *(read_text(path) for path in prompt_file or [])]
    if not texts:
        raise UserError("generate: no text; give TEXT or --prompt-file FILE")
    model = load(run)
    if isinstance(model, PictureCaptioner):
        raise UserError(f"{run}: a captioner; use `attendgen caption {run} IMAGE`")
    if bfloat16:
        if not isinstance(model, TextGenerator):
            raise UserError(f"--bfloat16: {run} is not a language model")
        model.to_bfloat16()
    if attention is not None:
        plotting.check_suffix(attention)
    streamed = False
    if score is not None:
        if given:
            name = "--" + next(iter(given)).replace("_", "-")
            raise UserError(f"--score: a given output is not searched for; leave {name} out")
        found = [[model.score(text, score)] for text in texts]
    else:
        if seed is None:
            torch.seed()  # another sample each time
        if isinstance(model, TextGenerator) and len(texts) == 1 and model.outputs(**given) == 1:
            streamed = True
            given["watch"] = lambda symbol: print(symbol, end="", flush=True)
        found = model.generate_all(texts, **given)
    for outputs in found:
        for result in outputs:
            scored = len(outputs) > 1 or score is not None
            print("" if streamed else f"{result.score:.3f}\t{result.text}" if scored else result.text)
    if attention is not None:
        first = found[0][0]
        shown = min(len(first.tokens), 160)  # more rows than that cannot be read
        if not first.attention.size:
            raise UserError(f"--attention: {run} does not attend to anything")
        figure = plotting.alignment(first.source, first.tokens[:shown], first.attention[:shown])
        plotting.save(figure, attention)
        print(f"attention: {attention}", file=sys.stderr)


@app.command()
def caption(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of any size and mode.")],
    beam: Beam = None,
    alpha: Alpha = None,
    average: Average = None,
    coverage: Coverage = None,
    consensus: Consensus = None,
    neighbours: NeighbourCount = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the training pictures are; default: where the run's config says."),
    ] = None,
    min_length: MinLength = None,
    max_length: MaxLength = None,
    no_repeat: NoRepeat = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write a PNG for each picture.")] = Path("."),
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write one HTML page that holds it all.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Caption pictures, and show where the model looked for each word."""
    given = search_options(locals())
    from attendgen import plotting
    from attendgen.data.images import open_image
    from attendgen.inference import PictureCaptioner, load
    from attendgen.report import write_report
    from attendgen.runs import Run

    pictures = [open_image(path) for path in images]  # all readable before anything is written
    found = Run.find(run)
    if data is not None:
        found.config.data.root = str(data)
    model = load(found)
    if not isinstance(model, PictureCaptioner):
        raise UserError(f"{run}: no captioner; use `attendgen generate {run} TEXT`")
    names = attention_names(images)
    entries = []
    for path, name, picture in zip(images, names, pictures, strict=True):
        result = model.caption(picture, **given)[0]
        figure = plotting.caption_panels(picture, result.tokens, result.attention)
        plotting.save(figure, out / name)
        entries.append((result.text, f"{path.name}, log-probability {result.log_probs.sum():.2f}", figure))
        print(f"{path}: {result.text}" if len(images) > 1 else result.text)
        print(f"attention: {out / name}", file=sys.stderr)
    if html is not None:
        write_report(html, f"Captions of {model.run.checkpoint}", entries)


def search_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's arguments that set a field of the search, and were given."""
    from attendgen.decoding.search import Search

    fields = inspect.signature(Search).parameters
    return {name: value for name, value in arguments.items() if name in fields and value is not None}


def attention_names(images: list[Path]) -> list[str]:
    """A PNG name for each picture, told apart by number where two pictures have the same name."""
    names: list[str] = []
    for path in images:
        name = f"{path.stem}_attention.png"
        copies = sum(earlier.stem == path.stem for earlier in images[: len(names)])
        names.append(name if not copies else f"{path.stem}_{copies + 1}_attention.png")
    return names


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="textgenerate: a published character model.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its checkpoint.")],
    out: MadeRun,
) -> None:
    """Make a run of another project's checkpoint."""
    from attendgen.importers import import_run

    import_run(kind, file, out)
    print(f"run: {out}", file=sys.stderr)


@app.command()
def ensemble(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="Runs of one family and vocabulary.")],
    out: MadeRun,
    weights: Annotated[
        str | None,
        typer.Option(metavar="W,W,...", help="Exponents of their probabilities; default: one by their number."),
    ] = None,
    fit: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Find the weights that predict this split best; val, say.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Join trained models to one that writes with a weighted product of their probabilities."""
    given = _weights(weights)
    if given and fit:
        raise UserError("--weights and --fit exclude each other; leave one out")
    from attendgen.ensembles import make_ensemble

    _print_made(make_ensemble(runs, out, given, fit), out)


@app.command()
def merge(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="A run and what it was fine-tuned to.")],
    out: MadeRun,
    weights: Annotated[
        str | None, typer.Option(metavar="W,W,...", help="Of the models, divided by their sum; default: all the same.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Make one model of several: the mean of their weights."""
    from attendgen import merging

    _print_made(merging.merge(runs, out, _weights(weights)), out)


def _weights(text: str | None) -> list[float] | None:
    """
    Raises:
        UserError: they are no numbers.
    """
    try:
        return [float(weight) for weight in text.split(",")] if text else None
    except ValueError:
        raise UserError(f"--weights {text}: expected numbers with commas between") from None


def _print_made(weights: list[float], out: Path) -> None:
    print(f"weights: {','.join(f'{weight:.4f}' for weight in weights)}\nrun: {out}", file=sys.stderr)


@app.command()
def calibrate(
    run: RunArgument,
    out: MadeRun,
    arguments: Changes = None,
    fit: Annotated[str, typer.Option(metavar="SPLIT", help="What the model shall predict best.")] = "val",
    trust: Trust = None,
) -> None:
    """Turn a trained model's matrices up or down until it predicts a split best that it did not learn from."""
    from attendgen import calibration
    from attendgen.runs import Run

    found = Run.find(run)
    before, after = calibration.calibrate(found, found.overridden(arguments or []), out, fit)
    bits = " -> ".join(f"{nats / math.log(2):.4f}" for nats in (before, after))
    print(f"{fit}: {bits} bits a symbol\nrun: {out}", file=sys.stderr)


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look for run directories.")] = Path(
        "outputs"
    ),
    bundled: Annotated[bool, typer.Option("--bundled", help="List the models that travel with the package.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table as CSV.")] = None,
) -> None:
    """List runs or the trials of a sweep: experiment, settings, key metrics, date; mean and deviation over seeds."""
    if bundled:
        from attendgen.resources import bundled_models

        print_table(["model", "what it does"], [[name, description(at)] for name, at in bundled_models().items()])
        return
    from attendgen.listing import find_runs, write_csv

    found = find_runs(folder)
    print_runs(found)
    if csv is not None:
        write_csv(csv, found)


def description(model: Path) -> str:
    """The first line of a bundled model's README."""
    from attendgen.files import read_text

    return read_text(model / "README.md").strip().split("\n")[0]


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """A plain table on the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True  # what the row is about, often a path to copy
    for row in rows:
        table.add_row(*row)
    # a pipe has no width: cut nothing
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def main() -> None:
    """Run a command: exit code 0, 2 with one line on a user's mistake, 1 on anything else.

    130 at Ctrl-C and 143 at SIGTERM: a training has then saved what it needs to be continued.
    """
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        print(f"attendgen: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except Diverged as error:
        print(f"attendgen: {error}", file=sys.stderr)
        code = 1
    except Interrupted as signalled:
        print(f"attendgen: {signalled}", file=sys.stderr)
        code = 128 + signalled.number
    except KeyboardInterrupt:
        print("attendgen: interrupted", file=sys.stderr)
        code = 130
    except Exception as error:
        usage = getattr(error, "format_message", None)  # the option parser's own errors
        if usage is None:
            traceback.print_exc()
            code = 1
        else:
            print(f"attendgen: {' '.join(usage().split()) or 'a command is missing'}; see --help", file=sys.stderr)
            code = 2
    sys.exit(code if isinstance(code, int) else 0)
