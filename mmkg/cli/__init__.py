"""The command line: thin readings of arguments around one function each.

Exit status: 0 done, 1 our own error (one message that names the next step), 2 wrong usage. Anything else is a bug and
keeps its traceback. Heavy packages are imported inside the commands, so that ``mmkg --help`` answers at once.
"""

import logging
import sys
from typing import Annotated

import typer

import mmkg
from mmkg.cli import ask, builds, demo, learn, pictures, reading, search, upkeep
from mmkg.errors import MmkgError

_INTERRUPTED = 130  # what Typer makes of Ctrl-C

app = typer.Typer(
    name="mmkg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Build a knowledge graph from dumps of Freebase, DBpedia and YAGO, ask it in Cypher, and train on it.

Start here:  mmkg demo            the whole way on a bundled graph of countries, offline, in two minutes

Your own:    mmkg init my-graph   writes my-graph/graph.toml; then: mmkg build my-graph/graph.toml
""",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mmkg {mmkg.__version__}")
        raise typer.Exit


@app.callback()
def _settings(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what each step does.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what is asked for.")] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mmkg").setLevel(level)
    logging.getLogger("mmkg.training").setLevel(
        logging.WARNING if level == logging.INFO else level
    )  # `train` prints it


for module in (demo, builds, pictures, upkeep, ask, search, learn, reading):
    module.register(app)


def main() -> None:
    """Run the command line; our own errors end in one message and exit status 1."""
    try:
        app()
    except MmkgError as error:
        print(f"mmkg: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `mmkg query … | head`
        sys.stderr.close()
        sys.exit(0)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            print("mmkg: stopped. The same command goes on where this one ended.", file=sys.stderr)
        raise
