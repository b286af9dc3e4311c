"""Every error that edgecnn raises on purpose, in one tree.

    EdgecnnError
    ├── InputError (ValueError)               what the caller passed cannot be used
    │   ├── UnknownTaskError (LookupError)    no such task, model or shipped file
    │   ├── PictureError                      a file that should be a picture is none, or is cut short
    │   ├── DatasetError                      a data folder cannot be turned into a data set
    │   │   └── NoDataError                   a task's data is nowhere on this machine
    │   └── ShapeError                        an array of the wrong shape or dtype
    ├── ArtifactError (ValueError)            an exported model file cannot be trusted
    │   ├── ContractError                     its contract is missing, malformed or at odds with its tensors
    │   ├── DigestError                       its bytes are not the bytes the contract was written for
    │   └── SignatureError                    nobody whom this machine trusts has signed it
    ├── InferenceError (RuntimeError)         an inference runtime refused a model or failed while running it
    ├── MissingDependencyError (ImportError)  a package of an extra is not installed
    ├── ConversionError (RuntimeError)        a model cannot be converted as asked
    ├── ClusterError (ConnectionError)        another machine that takes part cannot be reached, or went away
    ├── CameraError (OSError)                 a camera cannot be opened, or has stopped delivering pictures
    └── OutputError (OSError)                 a result cannot be written

The command line shows any of them as one line and exits with 2; anything else is a bug of ours and keeps its traceback.
"""


class EdgecnnError(Exception):
    """Base of all errors that edgecnn raises on purpose; its text is one line with the value and the way out."""


class InputError(EdgecnnError, ValueError):
    """What the caller passed cannot be used."""


class UnknownTaskError(InputError, LookupError):
    """No task, model or shipped artifact has this name."""


class PictureError(InputError):
    """A file that should hold a picture holds none, or only a part of one."""


class DatasetError(InputError):
    """A folder or file cannot be turned into a data set."""


class NoDataError(DatasetError):
    """The data of a task is nowhere on this machine, and no folder was given."""


class ShapeError(InputError):
    """An array has the wrong shape or dtype."""


class ArtifactError(EdgecnnError, ValueError):
    """An exported model file cannot be trusted."""


class ContractError(ArtifactError):
    """The contract of an artifact is missing, malformed or contradicts the model's tensors."""


class DigestError(ArtifactError):
    """The bytes of an artifact are not those that its contract was written for."""


class SignatureError(ArtifactError):
    """An artifact lacks the signature that was demanded, or has another's."""


class InferenceError(EdgecnnError, RuntimeError):
    """An inference runtime refused a model or failed while running it."""


class MissingDependencyError(EdgecnnError, ImportError):
    """A package that belongs to one of the extras is not installed."""


class ConversionError(EdgecnnError, RuntimeError):
    """A model cannot be converted as asked."""


class ClusterError(EdgecnnError, ConnectionError):
    """Another machine that takes part in a study or a training cannot be reached, or went away."""


class CameraError(EdgecnnError, OSError):
    """A camera cannot be opened, or has stopped delivering pictures."""


class OutputError(EdgecnnError, OSError):
    """A result cannot be written where it was asked for."""
