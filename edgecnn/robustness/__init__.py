"""What a camera does to pictures, in fixed steps of stated strength, and what is left of a model's accuracy after it."""
