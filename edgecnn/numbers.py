"""Numbers that stand in texts of others: an option, an address, a file's header."""

from __future__ import annotations


def whole_number(text: str, *, at_most: int) -> int | None:
    """Return the number that a text of ASCII digits stands for, None for any other text and for one above `at_most`.

    `int` alone also takes signs, underscores and the digits of other scripts, and raises for a text of some thousand digits.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(at_most))):
        return None
    number = int(text)
    return number if number <= at_most else None
