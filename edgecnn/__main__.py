"""`python -m edgecnn`."""

from edgecnn.cli.main import main

main()
