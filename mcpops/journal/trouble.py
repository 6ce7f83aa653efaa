"""What can be wrong with the journal. Which error of a database is which of these, its backend says."""

from __future__ import annotations

from mcpops.core.errors import Failed, Unknown


class Unavailable(Unknown):
    """The journal cannot be read or written now. What it holds stays true; a run under way can be resumed."""


class Damaged(Failed):
    """What the journal holds is not what was written."""


# What the engine never takes for the outcome of a step: the step may have done its work.
TROUBLE = (Unavailable, Damaged)
