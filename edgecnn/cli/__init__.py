"""The command line: each command parses, calls one library function and prints; none is imported before it is chosen."""
