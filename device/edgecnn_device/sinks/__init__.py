"""Where observations go: one file a kind of sink, imported only when chosen; each is a context manager with `write`."""
