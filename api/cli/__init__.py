"""The ``bitalloc`` command; one file per subcommand.

Exit codes: 0 a plan or a finished job, 1 no plan exists or none was found, a lint found errors or a plan failed its
gate, 2 the input cannot be used, 3 a bug, 130 stopped by Ctrl-C (a search then shows and writes the best plan so far),
141 nobody reads the answer any more.

No command replaces a file without `--force`; whether results can be written is known before any work begins. Names are
never cut, in pipes and narrow terminals either; what a terminal's encoding lacks is written in ASCII.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from importlib import metadata
from typing import Annotated

import typer

from allocator import BitallocError, CertificateError
from api.cli import (
    apply,
    demo,
    explain,
    export,
    frontier,
    import_scores,
    keys,
    lint,
    profile,
    refine,
    serve,
    solve,
    verify,
)
from api.cli.interrupting import INTERRUPTED, left_behind
from api.cli.server import Server
from api.cli.terminal import close_quietly, open_streams

#: As shells say it of what SIGPIPE ended.
_NOBODY_READS = 141
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Which layer of a neural network gets how many bits: **measure** what each choice costs, **solve** for the "
    "best plan within your budgets with a proof, **apply** it.",
    epilog="Start with `bitalloc demo`. To plan your own model: `bitalloc profile`, then `bitalloc solve`.",
)
app.command("demo")(demo.command)
app.command("profile")(profile.command)
app.command("solve")(solve.command)
app.command("frontier")(frontier.command)
app.command("refine")(refine.command)
app.command("verify")(verify.command)
app.command("explain")(explain.command)
app.command("apply")(apply.command)
app.command("export")(export.command)
app.command("import")(import_scores.command)
app.command("lint")(lint.command)
app.command("serve")(serve.command)
app.add_typer(keys.app, name="keys")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bitalloc {metadata.version('bitalloc')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(
            envvar="BITALLOC_SERVER",
            metavar="URL",
            help="Let this service plan (`solve`), or take plans from it by their ids (`export`, `lint`, `apply`).",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="BITALLOC_API_KEY", metavar="KEY", help="Key of that service.", show_envvar=True),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version
    context.obj = Server(server, api_key)


def main() -> None:
    """Run the command; errors in the input become one message and exit code 2."""
    open_streams()
    # Libraries announce optional CUDA parts that a CPU build lacks; nobody here can act on that.
    for noisy in ("torchao", "torch.utils._pytree", "torch.onnx"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    code = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        close_quietly()
        code = _NOBODY_READS
    except OSError as error:
        close_quietly()
        sys.stderr.write(f"error: cannot write to standard output: {error.strerror}\n")
        code = 2
    if left_behind():  # a solver of others that does not stop
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    try:
        app()
    except SystemExit as ended:
        return _meant(ended)
    except KeyboardInterrupt:
        return INTERRUPTED
    except CertificateError as error:
        sys.stderr.write(f"error: a bug in bitalloc, please report it: {error}\n")
        return 3
    except BitallocError as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in str(error).splitlines()))
        return 2
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            sys.stderr.write(f"error: cannot write all of it: {error.strerror}\n")
            return 2
        return _crashed(error)
    return 0


def _meant(ended: SystemExit) -> int:
    # Typer and rich end with 1 where a pipe is closed or a file is cut short, which says that no plan exists.
    if isinstance(ended.__context__, BrokenPipeError):
        close_quietly()
        return _NOBODY_READS
    if isinstance(ended.__context__, typer.Abort) or isinstance(ended.code, str):
        return _crashed(ended.__context__ or ended)
    return ended.code or 0


def _crashed(error: BaseException) -> int:
    # Python itself would end with 1, which says that no plan exists.
    traceback.print_exception(error)
    sys.stderr.write(f"error: a bug in bitalloc, please report it: {type(error).__name__}: {error}\n")
    return 3
