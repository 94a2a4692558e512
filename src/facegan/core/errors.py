"""The exceptions that users see."""


class FaceganError(Exception):
    """A user error or invalid input: one line that says what is wrong, where, and what to do.

    The command prints it without a traceback and exits with status 1.
    """


class Unavailable(FaceganError):
    """A server does not answer or is overloaded, which may pass: try the same again.

    The command exits with `STATUS`, EX_TEMPFAIL of sysexits.h.
    """

    STATUS = 75


class Interrupted(FaceganError):
    """A signal stopped the command; the same command resumes."""
