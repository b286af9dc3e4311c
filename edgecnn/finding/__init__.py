"""Where the handwritten digits of a photograph are, and what they say."""

from edgecnn.finding.digits import DigitRegion, find_digits
from edgecnn.finding.reading import DigitReading, read_digits
from edgecnn.finding.steps import ALL_STEPS, Steps

__all__ = ["ALL_STEPS", "DigitReading", "DigitRegion", "Steps", "find_digits", "read_digits"]
