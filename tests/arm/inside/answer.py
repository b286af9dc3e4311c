"""Answers the same pictures on the board as on the workstation: `answer.py FOLDER OUT.npz [RUNTIME]`.

FOLDER holds `model.tflite`, `logits.tflite` (the same model without its softmax), `validation.npy` and `pictures/`. OUT.npz
gets what the network was shown of each picture, its features and its answers. Runs on both sides, with what is installed there.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.classifier import Classifier
from edgecnn.folders import find_pictures
from edgecnn.pictures import read_picture
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.runtime import Answers, answer, run_all
from edgecnn.runtimes.select import open_graph, open_tflite
from edgecnn_device.doctor import delegate
from edgecnn_device.finders import choose_look

# linux/auxvec.h and asm/hwcap.h of arm64.
AT_HWCAP, AT_HWCAP2, HWCAP_SVE, HWCAP2_SME = 16, 26, 1 << 22, 1 << 23


def main(folder: Path, out: Path, runtime: str | None) -> None:
    """Answer everything in `folder`."""
    refuse_wrong_processor()
    artifact = Artifact.open(folder / "model.tflite")
    opened = open_runtime(artifact, runtime=runtime)
    logits = open_tflite((folder / "logits.tflite").read_bytes(), runtime=runtime)
    images = np.load(folder / "validation.npy")
    seen = answer_all(opened, images)
    answers: dict[str, Any] = {
        "runtime": opened.name,
        "delegate": delegate(artifact) if runtime is None else "not asked",
        "graph": run_all(open_graph(artifact, runtime=runtime), images),
        "graph_scale": artifact.contract.output.scale,
        "features": np.concatenate([part.values for part in seen if part.values is not None]),
        "probabilities": np.concatenate([part.probabilities for part in seen]),
        "logits": run_all(logits, images),
        "logit_scale": logits.output.scale,
    }
    contract = artifact.contract
    classifier = Classifier.running(opened, contract)
    predictions = [each for part in seen for each in classifier.interpret_all(part)]
    answers["verdicts"] = np.array([f"{each.verdict} {each.class_id} {each.nearest}" for each in predictions])
    answers["novelty"] = np.array([each.novelty for each in predictions], np.float64)
    look = choose_look(contract.preprocessing)
    for path in find_pictures([folder / "pictures"]):
        picture = read_picture(path)
        looked = look(picture, classifier, time.monotonic)
        answers[f"decoded {path.name}"] = hashlib.sha256(picture.tobytes()).hexdigest()
        answers[f"inputs {path.name}"] = looked.inputs
        answers[f"boxes {path.name}"] = np.array([region.box for region in looked.regions])
    np.savez(out, **answers)


def answer_all(runtime: Runtime, images: NDArray[np.uint8]) -> list[Answers]:
    """Answer pictures `(n, h, w, c)` in slices."""
    return [answer(runtime, images[at : at + 64]) for at in range(0, len(images), 64)]


def refuse_wrong_processor() -> None:
    """End where the emulated processor has SVE or SME: no Raspberry Pi has, and qemu 7.2 answers wrongly with SME."""
    if platform.machine() != "aarch64":
        return
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    if getauxval(ctypes.c_ulong(AT_HWCAP)) & HWCAP_SVE or getauxval(ctypes.c_ulong(AT_HWCAP2)) & HWCAP2_SME:
        sys.exit("this is qemu's processor `max`: set QEMU_CPU to cortex-a53, cortex-a72 or cortex-a76")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
