"""The networks: the course's two, exactly, and the compact ones of our own."""
