"""Saying "I don't know": the threshold below which an answer is `unknown`, and what it is worth."""
