"""`python -m loomax`, the same as the `loomax` command."""

from loomax.cli.main import main

raise SystemExit(main())
