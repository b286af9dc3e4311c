"""The repair ladder: what can be done, from cheap to dear, when a plain int8 file lost too much."""
