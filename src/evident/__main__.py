"""`python -m evident`."""

from evident.cli.main import main

raise SystemExit(main())
