"""Pictures of what a model sees and answers, drawn with Matplotlib without a window and without its global state."""
