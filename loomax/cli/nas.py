"""loomax nas: train a supernet, cost tables, search."""

import importlib
from collections.abc import Sequence

from loomax.runtime.config import fail, unknown

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
    if not argv or argv[0] in ("-h", "--help"):
        print(DESCRIPTION)
        return
    if argv[0] not in COMMANDS:
        fail(prog, unknown("command of nas", argv[0], COMMANDS))
    importlib.import_module(COMMANDS[argv[0]]).main(list(argv[1:]))
