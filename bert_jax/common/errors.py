"""The exceptions whose messages are shown to the user, without a traceback."""


class UserError(Exception):
    """Something the user can fix: the message names the file, field or flag, its value, the fix.

    Commands print it as one line and exit with status 1; everything else is a bug and keeps its
    traceback.
    """


class FirstProcessEndedError(Exception):
    """Process 0 of a run has ended, so this one ends too; the message of process 0 says why."""
