"""The exceptions that users see."""


class FaceganError(Exception):
    """A user error or invalid input: one line that says what is wrong, where, and what to do.

    The command prints it without a traceback and exits with status 1.
    """


class Interrupted(FaceganError):
    """A signal stopped the command; the same command resumes."""
