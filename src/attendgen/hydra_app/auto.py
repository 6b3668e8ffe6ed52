"""`resume=auto`: the same command starts a run and goes on with it, as pre-emption on clusters needs."""

from pathlib import Path

from attendgen.config.literals import expand_home, unquote
from attendgen.runs.layout import has_checkpoint, is_run_folder, read_arguments
from attendgen.utils.errors import UserError
from attendgen.utils.ranks import get_launch

AUTO = "resume=auto"
RUN_DIR = "hydra.run.dir="


def choose_resumed(arguments: list[str]) -> list[str]:
    """Return arguments in which `resume=auto` is the run of `hydra.run.dir`, if there is one, else left out.

    Arguments that the run was not started with are changes of its settings. A sweep goes on by itself.

    Raises:
        UserError: the folder is not named.
    """
    if AUTO not in arguments:
        return arguments
    rest = [argument for argument in arguments if argument != AUTO]
    if any(argument in ("-m", "--multirun") or argument.startswith("sweep=") for argument in rest):
        return rest
    folders = [argument.removeprefix(RUN_DIR) for argument in rest if argument.startswith(RUN_DIR)]
    if not folders:
        raise UserError("resume=auto: needs the folder of the run, as hydra.run.dir=DIR")
    folder = Path(expand_home(unquote(folders[-1])))
    if not is_begun(folder):
        return rest
    before = {unquote_argument(argument) for argument in read_arguments(folder)}
    changes = [a for a in rest if unquote_argument(a) not in before and not a.lstrip("+").startswith("hydra")]
    return [f"resume={folder}", *changes]


def is_begun(folder: Path) -> bool:
    """Return whether a folder holds a run to go on with.

    Several processes that a launcher starts must agree, and the first may have written the config of a new run by now.
    They go by checkpoints, of which none is written before all have joined. The first starts a run without one anew.
    """
    if get_launch() is None:
        return is_run_folder(folder)
    return is_run_folder(folder) and has_checkpoint(folder)


def unquote_argument(argument: str) -> str:
    """Return an argument without quotes around its value."""
    key, equals, value = argument.partition("=")
    return f"{key}{equals}{unquote(value)}"
