"""The exception whose message is shown to the user."""


class UserError(Exception):
    """Something the user can fix: the message names the file, field or flag, its value, the fix.

    Commands print it as one line and exit with status 1; everything else is a bug and keeps its
    traceback.
    """
