"""Which devices a training runs on, in which precision, and how it is spread: all that is TensorFlow's own."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import keras

from edgecnn.errors import ClusterError, InputError
from edgecnn_export.training.fused_batchnorm import with_fused_normalization
from edgecnn_export.training.workers import VARIABLE, Cluster, KerasLoop, Loop, SharedLoop

_BFLOAT16_SINCE = (8, 0)  # compute capability of NVIDIA's Ampere


@dataclass(frozen=True, eq=False)
class Devices:
    """What a training runs on: in words, how many, the Keras dtype policy, and TensorFlow's strategy when it is spread.

    `jit_compile` is Keras' option of that name; `loop` goes through batches.
    """

    description: str
    count: int
    policy: str
    strategy: Any | None = None
    jit_compile: bool | str = "auto"
    fuses_normalization: bool = False
    loop: Loop = KerasLoop()  # noqa: RUF009  # it has no state

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model and its optimizer must be made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def prepare(self, model: keras.Model) -> keras.Model:
        """Return the model as it is best trained here, its variables in the same order.

        On several devices batch normalisation sees the whole batch, not each device's share of it: one or many learn alike. On
        one CPU under TensorFlow it is computed by a fused kernel.
        """
        if self.strategy is not None:
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        return with_fused_normalization(model) if self.fuses_normalization else model


def open_devices(count: int = 1) -> Devices:
    """Choose `count` devices of the best kind: GPUs when there are any, in mixed precision, else the CPU in float32.

    Several devices share each batch (`tf.distribute.MirroredStrategy`), as do the workers of a cluster that TF_CONFIG describes
    (`tf.distribute.MultiWorkerMirroredStrategy`). Raises InputError when there are fewer devices, and for both at once.
    """
    if count < 1:
        raise InputError(f"--devices must be at least 1, got {count}")
    cluster = Cluster.stated()
    if cluster is not None and (count > 1 or keras.backend.backend() != "tensorflow"):
        raise InputError(f"the workers of {VARIABLE} need Keras' TensorFlow backend, and have one device each: no --devices")
    if keras.backend.backend() != "tensorflow":
        return _open_elsewhere(count)
    import tensorflow as tf

    if cluster is not None:
        return _open_workers(tf, cluster)
    gpus, cpus = tf.config.list_logical_devices("GPU"), tf.config.list_logical_devices("CPU")
    available = gpus or cpus
    if count > len(available):
        raise InputError(f"{count} devices were asked for, TensorFlow has {_listed(available)}; lower --devices")
    kind = _gpu_name(tf) if gpus else "CPU"
    strategy = tf.distribute.MirroredStrategy([device.name for device in available[:count]]) if count > 1 else None
    description, policy = kind if count == 1 else f"{count} x {kind}", _policy(tf) if gpus else "float32"
    # XLA on a CPU is 1.5 times as slow as TensorFlow's own kernels with full convolutions, 6 times with depthwise ones.
    fuses = not gpus and count == 1
    return Devices(description, count, policy, strategy, jit_compile="auto" if gpus else False, fuses_normalization=fuses)


def _open_workers(tf: Any, cluster: Cluster) -> Devices:
    """Wait for all workers and connect to them; nothing of TensorFlow's may have run before."""
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise ClusterError(f"the workers {', '.join(cluster.addresses)} of {VARIABLE} did not all come") from error
    gpus = tf.config.list_logical_devices("GPU")
    kind = _gpu_name(tf) if gpus else "CPU"
    description = f"{kind}, worker {cluster.index + 1} of {len(cluster.addresses)}"
    return Devices(
        description,
        1,
        _policy(tf) if gpus else "float32",
        strategy,
        jit_compile=False,
        loop=SharedLoop(strategy, cluster),
    )


def _open_elsewhere(count: int) -> Devices:
    backend = keras.backend.backend()
    if count > 1:
        raise InputError(f"several devices need Keras' TensorFlow backend, this is {backend}; leave --devices out")
    first = str(keras.distribution.list_devices()[0])
    return Devices(f"{first} ({backend})", 1, "float32" if first.startswith("cpu") else "mixed_bfloat16")


def _gpu_details(tf: Any) -> dict[str, Any]:
    return dict(tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0]))


def _gpu_name(tf: Any) -> str:
    return str(_gpu_details(tf).get("device_name", "GPU"))


def _policy(tf: Any) -> str:
    newer = _gpu_details(tf).get("compute_capability", (0, 0)) >= _BFLOAT16_SINCE
    return "mixed_bfloat16" if newer else "mixed_float16"


def _listed(devices: list[Any]) -> str:
    kinds = sorted({device.device_type for device in devices})
    return f"{len(devices)} ({', '.join(kinds)})"
