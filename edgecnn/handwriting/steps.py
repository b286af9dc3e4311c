"""The steps from a photograph to digits, each of which can be left out to measure what it brings."""

from __future__ import annotations

from dataclasses import dataclass

from edgecnn.mnist_form import Form


@dataclass(frozen=True)
class Steps:
    """Which steps are taken. All of them, unless their gain is being measured (`edgecnn.handwriting.evaluation`)."""

    illumination: bool = True
    lines: bool = True
    scale: bool = True
    turning: bool = True
    joining: bool = True
    splitting: bool = True
    stroke_weight: bool = True
    deskew: bool = True
    reject: bool = True

    @property
    def form(self) -> Form:
        """What is done to one digit's ink."""
        return Form(stroke_weight=self.stroke_weight, deskew=self.deskew)


ALL_STEPS = Steps()
