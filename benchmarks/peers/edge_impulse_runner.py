"""Stands in for a compiled `.eim`: the same protocol (a Unix socket, features in shared memory), the same LiteRT model."""

from __future__ import annotations

import json
import socket
import sys
from multiprocessing import shared_memory

import numpy as np
from ai_edge_litert.interpreter import Interpreter

SIDE = 200


def main() -> None:
    """Serve one client."""
    model, path = sys.argv[1:]
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = outputs["quantization"]
    memory = shared_memory.SharedMemory(create=True, size=4 * SIDE * SIDE)
    features = np.ndarray((SIDE * SIDE,), np.float32, buffer=memory.buf)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    client, _ = server.accept()
    while request := client.recv(65536):
        message = json.loads(request)
        if "hello" in message:
            labels = [str(number) for number in range(outputs["shape"][1])]
            parameters = {
                "image_input_width": SIDE, "image_input_height": SIDE, "image_channel_count": 1, "labels": labels,
                "image_resize_mode": "squash", "model_type": "classification",
            }  # fmt: skip
            shared = {"name": memory.name, "type": "float32", "elements": SIDE * SIDE}
            answer = {"model_parameters": parameters, "features_shm": shared}
        else:
            pixels = (features.astype(np.int64) & 255).astype(np.uint8).reshape(1, SIDE, SIDE, 1)
            interpreter.set_tensor(inputs["index"], (pixels ^ np.uint8(0x80)).view(np.int8))
            interpreter.invoke()
            scores = (interpreter.get_tensor(outputs["index"])[0].astype(float) - zero_point) * scale
            answer = {"result": {"classification": {str(number): score for number, score in enumerate(scores)}}}
        client.sendall(json.dumps(answer | {"id": message["id"], "success": True}).encode() + b"\0")
    memory.close()
    memory.unlink()


main()
