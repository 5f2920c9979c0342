"""What a user can mend: said in one sentence, never as a traceback."""


class Refusal(Exception):
    """An obstacle that a user can remove; its text is one sentence."""

    status = 1  # of the exit: 1 where the work failed, 2 where the call is wrong


class ParameterError(Refusal, ValueError):
    """A parameter that does not exist or whose value is not allowed."""

    status = 2


class BoundError(Refusal, ValueError):
    """Examples, a model or options of which no bound can be computed."""


class AdapterError(Refusal, ValueError):
    """A model trained elsewhere, or its images, of which no bound can be computed."""


class WeightsError(Refusal, ValueError):
    """Weights that are missing, damaged or belong to something else."""


class TrainingError(Refusal, RuntimeError):
    """Work cannot go on: K is not finite, memory is lacking, or another process is gone."""


def one_line(error: BaseException) -> str:
    """The text of ``error`` on one line, with its kind where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
