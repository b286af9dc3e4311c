"""How fast is it here? Models on every runtime, and the whole camera loop beside the bare script."""
