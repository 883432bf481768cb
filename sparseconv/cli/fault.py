"""What goes wrong through no fault of the program, and the exit codes."""

DONE = 0
BAD_INPUT = 1
BAD_USAGE = 2
INTERRUPTED = 130
# what a shell reports for a program that lost the reader of its pipe
BROKEN_PIPE = 141


class UsageError(Exception):
    """The command line itself is wrong: an unknown option, a missing or senseless value."""


class InputError(Exception):
    """A file or folder named by the user cannot be used; the text is the whole explanation."""
