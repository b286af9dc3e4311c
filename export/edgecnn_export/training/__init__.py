"""Training on a workstation, interruptible and resumable, with a camera-like view of the pictures."""
