"""The one exception that users are meant to see."""


class FaceganError(Exception):
    """A user's mistake or a broken input: a line that says what, where and what to do.

    The command prints it without a traceback and ends with exit status 1.
    """


class Interrupted(FaceganError):
    """A signal ended a command that goes on where it was when it is given again."""
