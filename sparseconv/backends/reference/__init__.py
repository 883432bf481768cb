"""The executable specification: every primitive in plain torch, slow and obvious, on any device."""
