"""Reference against candidates on the same pictures: figures, verdict and page."""
