"""Generated stand-ins for real data sets, so that everything runs with no data at all.

Whatever is made here is called synthetic wherever it appears, and an accuracy measured on it is never the product's.
"""

from edgecnn.datasets.synthetic.digits import draw_digit, generate_digits
from edgecnn.datasets.synthetic.parts import generate_parts
from edgecnn.datasets.synthetic.steel import draw_surface, generate_steel, paste_defect, steel_strip

__all__ = ["draw_digit", "draw_surface", "generate_digits", "generate_parts", "generate_steel", "paste_defect", "steel_strip"]
