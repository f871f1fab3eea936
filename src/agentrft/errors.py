"""Errors that a user can act on, each with the exit code of the command that raised it."""

from agentrft.wire import clean_text


class AgentRFTError(Exception):
    """Base of all errors that agentrft raises on purpose. The command line exits with `exit_code`."""

    exit_code = 1


def describe(error: BaseException) -> str:
    """An unforeseen error in a line for a user: its kind and what it says, without half surrogate pairs."""
    text = clean_text(str(error)).strip()
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__


class UserError(AgentRFTError):
    """Something the user wrote or pointed at is wrong.

    Args:
        cause: what is wrong, with the file, line or field where it was found.
        remedy: what to do about it, as an instruction.

    Both may quote what came; half surrogate pairs in it become U+FFFD, so that they can be printed and stored.
    """

    exit_code = 2

    def __init__(self, cause: str, remedy: str) -> None:
        cause, remedy = clean_text(cause), clean_text(remedy)
        super().__init__(f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy


def missing_package(what: str, package: str, *, extra: str) -> UserError:
    """That `what` needs a package which an extra of ours brings."""
    return UserError(f"{what} needs the package '{package}'.", f"Run `pip install 'agentrft[{extra}]'`.")


class EndpointError(UserError):
    """A tool or grader endpoint of the user cannot be used: down, refusing the headers, or answering nonsense."""

    exit_code = 3


class ArtifactsError(UserError):
    """The store that a server's files are kept in does not answer, or refuses."""


class NotTrainableError(UserError):
    """The baseline shows that reinforcement has nothing to work with."""

    exit_code = 4


class JobFailedError(UserError):
    """The job ran and could not go on; it can be resumed."""

    exit_code = 5


class JobPaused(UserError):
    """An alarm of the job's paused it; it can be resumed."""

    exit_code = 6


class Interrupted(AgentRFTError):
    """The user asked the job to stop; its last completed step is on disk."""

    exit_code = 130
