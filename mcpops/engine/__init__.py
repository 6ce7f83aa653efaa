"""drive(run): the next step, its intent, its outcome, its undo; until the run ends or waits."""
