"""The command line of this process, for messages."""

import os
import shlex
import sys


def command_line() -> str:
    """The command that resumes this one."""
    if "DVC_STAGE" in os.environ:  # set by DVC for the commands of its stages
        return "dvc repro"
    command = shlex.join(["facegan", *sys.argv[1:]])
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # set by torchrun
        return command
    from facegan.runtime import distributed

    return distributed.command_line(command)
