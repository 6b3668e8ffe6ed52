"""attendgen generate."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attendgen.cli.figures import require_weights, save_alignment
from attendgen.cli.lines import generate_file, get_unit
from attendgen.cli.notes import UnknownTokens, report_search
from attendgen.cli.options import (
    ALTERNATIVES,
    Compile,
    Device,
    Html,
    Precision,
    RunArgument,
    Trust,
    Words,
    name_option,
    require_attention,
    take_settings,
    with_decoding_options,
)
from attendgen.utils.errors import UserError

if TYPE_CHECKING:
    from attendgen.inference.result import Result


@with_decoding_options
def generate(
    run: RunArgument,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Sources to answer or translate, contexts or tables; decoding.NAME=VALUE sets any option of decoding.",
        ),
    ] = None,
    prompt_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A file that holds one more source or context, or more tables (CSV or JSON)."
        ),
    ] = None,
    input_file: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="A file of texts, one per line, or - for standard input; each gives one line of output.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="With --input: write the outputs here; default: print them."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --input: go on after the lines that --output has.")
    ] = False,
    score: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="Print the log-probability of this output instead of generating one."),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save a heat map of the first output's attention (png, pdf, svg)."),
    ] = None,
    words: Words = None,
    html: Html = None,
    device: Device = "auto",
    precision: Precision = "32",
    compiles: Compile = False,
    trust: Trust = None,
    decoding: Any = None,
) -> int:
    """Answer, translate or continue texts, or write about tables; a single continuation is printed as it is made."""
    options = [name_option(name) for name in decoding]
    given, decoding = take_settings(texts or [], decoding)
    require_one_source(
        bool(given or prompt_file),
        input_file,
        output,
        resume,
        {"--score": score, "--attention": attention, "--html": html},
    )
    if input_file is not None:
        model = load_generator(run, device, precision, compiles)
        return generate_file(model, input_file, output, resume, model.clear_settings(decoding))
    if score is not None and decoding:
        name = options[0] if options else f"decoding.{next(iter(decoding))}"
        raise UserError(f"--score: a given output is not decoded; leave {name} out")
    require_attention(attention, words)
    model = load_generator(run, device, precision, compiles)
    texts = [*given, *(text for path in prompt_file or [] for text in model.read_inputs(path))]
    decoding = model.clear_settings(decoding)
    if attention is not None:
        require_attending(model, texts[0], run)
    if score is None:
        report_search(model, decoding)
    unknown = UnknownTokens()
    unknown.add(model, texts)
    unknown.report(get_unit(model))
    streamed = False
    alternatives = {} if html is None else {"alternatives": ALTERNATIVES}
    if score is not None:
        found = [[model.score(text, score, **alternatives)] for text in texts]
    else:
        streamed = len(texts) == 1 and can_stream(model, decoding)
        if streamed:
            decoding["on_token"] = lambda token: print(token, end="", flush=True)
        found = model.generate_all(texts, **alternatives, **decoding)
    print_results(found, streamed, with_scores=score is not None)
    if attention is not None:
        save_alignment(found[0][0], attention, run, words)
    if html is not None:
        write_page(found, html, model.run.name)
    return 0


def require_attending(model: Any, text: str, run: str) -> None:
    """Check that a model attends to something, before a text is generated, which can take long.

    Raises:
        UserError: it is a language model without attention.
    """
    if model.run.family == "language_model":
        require_weights(model.generate(text, max_length=1, beam_size=1)[0], run)


def require_one_source(
    has_texts: bool, input_file: str | None, output: Path | None, resume: bool, others: dict[str, Any]
) -> None:
    """Check that texts come from arguments or from a file, and that the options belong to that.

    Args:
        others: values of the options that concern single texts.

    Raises:
        UserError: there is no text, or there are both, or an option belongs to the other.
    """
    if input_file is None:
        if not has_texts:
            raise UserError("generate: no text; give TEXT, --input FILE or --prompt-file FILE")
        if output is not None or resume:
            raise UserError(f"{'--resume' if output is None else '--output'}: needs --input FILE")
        return
    given = [name for name, value in {"TEXT": has_texts or None, **others}.items() if value is not None]
    if given:
        raise UserError(f"--input {input_file}: cannot be combined with {given[0]}; leave one of them out")
    if resume and output is None:
        raise UserError("--resume: needs --output FILE, after whose lines it goes on")


def load_generator(run: str, device: str, precision: str, compiles: bool = False) -> Any:
    """Load a model that generates from texts.

    Args:
        compiles: replay decoding steps as CUDA graphs.

    Raises:
        UserError: it is a captioner, there is no such device or precision, or decoding is compiled without a GPU.
    """
    from attendgen.inference.image_captioner import ImageCaptioner
    from attendgen.inference.load import load
    from attendgen.utils.precision import set_matmul_precision

    model = load(run, device=device, precision=precision, compile=compiles)
    if isinstance(model, ImageCaptioner):
        raise UserError(f"{run}: a captioner; use `attendgen caption {run} IMAGE`")
    set_matmul_precision(model.device)
    return model


def can_stream(model: Any, options: dict[str, Any]) -> bool:
    """Return whether the output is one continuation, whose characters can be printed as they are made."""
    from attendgen.inference.text_generator import TextGenerator

    return isinstance(model, TextGenerator) and model.count_outputs(**options) == 1


def print_results(found: list[list["Result"]], streamed: bool, with_scores: bool) -> None:
    """Print each output on a line; of several per input, with their scores."""
    for outputs in found:
        for result in outputs:
            if streamed:
                print()
            elif len(outputs) > 1 or with_scores:
                print(f"{result.score:.3f}\t{result.text}")
            else:
                print(result.text)


def write_page(found: list[list["Result"]], path: Path, name: str) -> None:
    """Write the attention page of all outputs."""
    from attendgen.inference.report import report

    report({name: found}, path, title=f"Attention of {name}")
    print(f"page: {path}", file=sys.stderr)
