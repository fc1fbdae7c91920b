"""What rules read out of labels."""

from __future__ import annotations


def label_text(label: object) -> str:
    """A label that is a text or a number, as text; whole numbers without a decimal point.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(label, str):
        return label
    if isinstance(label, bool) or not isinstance(label, int | float):
        raise TypeError(f"the label is a {type(label).__name__}, not a text or a number")
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)
