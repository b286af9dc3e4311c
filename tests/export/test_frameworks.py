"""Importing Keras: without chatter, and with one line when it is missing."""

import subprocess
import sys

import pytest

QUIET = "from edgecnn_export.frameworks import require_keras; require_keras(); import keras; keras.ops.zeros((1,))"
MISSING = (
    "import sys; sys.modules[{name!r}] = None\n"
    "from edgecnn.errors import MissingDependencyError\n"
    "from edgecnn_export.frameworks import require_keras\n"
    "try:\n    require_keras()\nexcept MissingDependencyError as error:\n    print(error)\n"
)


def test_keras_starts_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True, timeout=120)

    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(("module", "name"), [("keras", "Keras"), ("tensorflow", "TensorFlow")])
def test_a_missing_framework_is_one_line_with_the_remedy(module: str, name: str) -> None:
    program = MISSING.format(name=module)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)

    assert done.stdout == f"{name} is not installed. Install it with: pip install 'edgecnn[train]'\n"
