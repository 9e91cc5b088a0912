"""The error of a run that cannot go on because of what the user gave."""


class InputError(ValueError):
    """The user's input is wrong; the message is one sentence: what, where, what to do.

    The command line prints it without a traceback and ends with status 2.
    """
