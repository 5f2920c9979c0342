"""What a user can mend: said in one sentence, never as a traceback."""

from __future__ import annotations


class Refusal(Exception):
    """Something that stands in the way and that a user can mend. Its text is one sentence; ``status`` is the exit status.

    1: the work failed. 2: the call is wrong (a name or a value that is not allowed).
    """

    status = 1


def one_line(error: BaseException) -> str:
    """The text of ``error`` on one line, with its kind where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
