"""Exported model files that carry their own contract."""

from edgecnn.artifacts.artifact import Artifact
from edgecnn.artifacts.contract import Contract

__all__ = ["Artifact", "Contract"]
