"""From the names of models to a robustness report, its heat map and its page."""
