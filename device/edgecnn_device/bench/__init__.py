"""How fast is it here? Models on every runtime, and the camera loop's rate with them."""
