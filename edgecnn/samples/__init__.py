"""What a camera kept, what people said about it, and the ways in and out: it serves the board and the workstation."""
