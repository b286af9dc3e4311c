"""The camera on a board that is deployed to: its model file, what it demands of one, and how it is restarted."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecnn.artifacts import Contract
from edgecnn.artifacts.signature import TrustedKey
from edgecnn.errors import InputError, OutputError
from edgecnn.files import exists
from edgecnn.shipped import shipped_tasks
from edgecnn_device.actions.rules import check_rules, parse_rules
from edgecnn_device.classes import Classes, split_labels
from edgecnn_device.config import read_values
from edgecnn_device.deploy.plan import Plan
from edgecnn_device.deploy.trial import Serving
from edgecnn_device.service import NAME, Service

_RESTART_S = 120.0


@dataclass(frozen=True)
class Site:
    """The model file `live`, how it is run, whose signature it needs, and the command that restarts its camera, if any.

    `on` and `good` are what the camera's options of these names say of classes.
    """

    live: Path
    serving: Serving = field(default_factory=Serving)
    trusted: TrustedKey | None = None
    restart: str | None = None
    on: tuple[str, ...] = ()
    good: str | None = None

    @classmethod
    def find(cls, plan: Plan) -> Site:
        """Return what a camera's camera.toml says, or what the plan states; InputError where neither names a model file."""
        config, service = _find_config(plan)
        values = {} if config is None else read_values(config)
        restart = plan.restart or (None if service is None else f"{_systemctl(service)} restart {NAME}")
        live = _find_live(plan, values, config)
        key = values.get("require-signature")
        trusted = None if key is None else TrustedKey.open(_absolute(str(key), "require-signature", config))
        serving = Serving(values.get("runtime"), values.get("threads", 1), values.get("reject"), values.get("novelty"))
        return cls(live, serving, trusted, restart, tuple(values.get("on", ())), values.get("good"))

    def demand_labels(self, contract: Contract) -> None:
        """Raise InputError when the camera would end at its start, since its options name classes that a model has not."""
        good = None if self.good is None else split_labels(self.good)
        classes = Classes.choose(contract.labels, good=good, reads=contract.preprocessing.fit == "digit")
        check_rules(parse_rules(self.on), classes)

    def restart_camera(self) -> None:
        """Restart the camera; OutputError when its command fails."""
        assert self.restart is not None
        try:
            done = subprocess.run(
                shlex.split(self.restart),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_RESTART_S,
                check=False,
                # A session without PAM has none, and by it systemctl finds the user's manager.
                env={"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"} | dict(os.environ),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OutputError(f"the camera cannot be restarted by `{self.restart}`: {error}") from error
        if done.returncode != 0:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[-200:] or "no reason"
            raise OutputError(f"the camera cannot be restarted by `{self.restart}` (exit code {done.returncode}): {said}")


def _find_config(plan: Plan) -> tuple[Path | None, Service | None]:
    """Return the camera.toml and the service that runs by it; None for what there is not."""
    services = [Service(user, "") for user in (True, False)]
    if plan.config is not None:
        config = Path.home() / plan.config
        return config, next((service for service in services if service.config == config and _has_unit(service)), None)
    if plan.live is not None:
        return None, None
    found = [service for service in services if exists(service.config)]
    if len(found) > 1:
        raise InputError(
            f"this board has {found[0].config} and {found[1].config}; say which one is meant: --config {found[0].config}"
        )
    if not found:
        raise InputError(
            f"this board has no camera.toml ({' or '.join(str(service.config) for service in services)}): set it up with "
            "edgecnn deploy --bootstrap, or name the camera's --config or --model"
        )
    return found[0].config, found[0] if _has_unit(found[0]) else None


def _find_live(plan: Plan, values: dict[str, Any], config: Path | None) -> Path:
    if plan.live is not None:
        return Path.home() / plan.live
    name = values.get("model")
    if not isinstance(name, str):
        raise InputError(f'{config} names no model; write model = "/path/of/model.tflite" into it and restart the camera')
    if name in shipped_tasks():
        raise InputError(
            f"{config} runs the model {name!r} that comes with edgecnn, which is not replaced; copy one to a place of its own, "
            'write model = "/path/of/model.tflite" into the file and restart the camera'
        )
    return _absolute(name, "model", config)


def _absolute(name: str, option: str, config: Path | None) -> Path:
    """Return a path that a camera.toml names; one that depends on where the camera was started is not guessed."""
    path = Path(name)
    if not path.is_absolute():
        raise InputError(f"{config} says {option} = {name!r}; a deployment needs the whole path there, from / on")
    return path


def _has_unit(service: Service) -> bool:
    return exists(service.folder / NAME)


def _systemctl(service: Service) -> str:
    return "systemctl --user" if service.user else "systemctl"
