"""loomax nas: train a supernet, cost tables, search."""

import importlib
from collections.abc import Sequence

from loomax.runtime.config import take_command

DESCRIPTION = """usage: loomax nas train [--config NAME] [OPTIONS]    a supernet
       loomax nas table [OPTIONS]                   latencies of a space's blocks
       loomax nas search [OPTIONS]                  the best networks under limits

--help after each lists its options."""
# Command -> the module that has its `main(argv)`.
COMMANDS = {
    "train": "loomax.cli.nas_train",
    "table": "loomax.cli.nas_table",
    "search": "loomax.cli.nas_search",
}


def run(argv: Sequence[str], prog: str) -> None:
    name, rest = take_command(argv, "command of nas", COMMANDS, prog, DESCRIPTION)
    importlib.import_module(COMMANDS[name]).main(rest)
