"""`python -m benchmarks`: all of them, one after the other."""

from __future__ import annotations

from benchmarks import first_act, intake, rollback, startup
from benchmarks.report import main

if __name__ == "__main__":
    main(intake.run, first_act.run, startup.run, rollback.run)
