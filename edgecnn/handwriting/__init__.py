"""Where the handwritten digits of a photograph are, and what they say."""

from edgecnn.handwriting.reader import DigitReading, read_digits
from edgecnn.handwriting.regions import DigitRegion, find_digits
from edgecnn.handwriting.steps import ALL_STEPS, Steps

__all__ = ["ALL_STEPS", "DigitReading", "DigitRegion", "Steps", "find_digits", "read_digits"]
