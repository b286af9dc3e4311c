"""Importing Keras: without chatter, and with one line when it is missing."""

import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("command", ["export neu", "train neu", "parity neu neu"])
def test_commands_say_what_to_install_when_keras_is_missing(command: str) -> None:
    program = f"import sys; sys.modules['keras'] = None\nfrom edgecnn.cli.main import main\nmain({command.split()!r})"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)

    last_line = done.stderr.splitlines()[-1]
    assert (done.returncode, last_line) == (2, "edgecnn: Keras is not installed. Install it with: pip install 'edgecnn[train]'")


def test_export_answers_a_mistake_with_one_line() -> None:
    arguments = [sys.executable, "-m", "edgecnn", "export", "no-such-model"]

    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)

    assert done.stderr.splitlines() == [
        "edgecnn: no such model: no-such-model; give a .keras or .h5 file, the folder of a run, a SavedModel, "
        "or one of mnist, neu"
    ]


REFUSED = (
    "import sys\nfrom edgecnn.cli.main import main\n"
    "try:\n    code = main({arguments!r})\nexcept SystemExit as end:\n    code = end.code\n"
    "print(code, 'keras' in sys.modules)\n"
)


@pytest.mark.parametrize("command", ["train", "train --only-good", "export", "data suspects", "study crossval"])
def test_a_folder_without_pictures_is_refused_before_keras_is_loaded(command: str, tmp_path: Path) -> None:
    program = REFUSED.format(arguments=[*command.split(), str(tmp_path)])

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)

    assert (done.stdout, len(done.stderr.splitlines())) == ("2 False\n", 1)


def test_a_command_says_that_it_loads_keras(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"no model")

    done = subprocess.run(
        [sys.executable, "-m", "edgecnn", "export", str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )

    assert done.stderr.splitlines()[0] == "loading Keras"
