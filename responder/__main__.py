"""`python -m responder` is the same as `responder`."""

from responder.cli import main

raise SystemExit(main())
