"""The family of errors this package raises on bad input. Every message says what is wrong, where
(file, image id, annotation id) and what to do about it."""

import sys
from collections.abc import Callable


class HintPoseError(Exception):
    """Base of all errors caused by input, settings, disk or network, not by a bug of ours."""


class DataError(HintPoseError):
    """An annotation file, a picture, a box or a cue that cannot be used."""


class CheckpointError(HintPoseError):
    """Weights that do not fit the network they were meant for, or that are damaged."""


class ConfigError(HintPoseError):
    """A setting that does not exist, has the wrong type, or contradicts another one."""


class RunError(HintPoseError):
    """A training run that cannot start, continue or write its files."""


class WriteError(HintPoseError, OSError):
    """A file that cannot be written."""


class FetchError(HintPoseError):
    """A download that failed, or that did not have the promised content."""


def exit_status(run: Callable[[], int | None], stopped: str = "stopped") -> int:
    """Returns the exit status: 0 by default, 2 after an expected error, 130 after Ctrl-C."""
    try:
        return run() or 0
    except BrokenPipeError:
        raise
    except (HintPoseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
