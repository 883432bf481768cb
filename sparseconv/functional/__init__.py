"""Functions on sparse tensors: find the rulebook, call one op, wrap the result."""
