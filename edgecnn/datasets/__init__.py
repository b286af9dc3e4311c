"""Data sets: loading, dividing, checking and generating labelled pictures."""
