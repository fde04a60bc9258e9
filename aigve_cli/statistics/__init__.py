"""Float64 mathematics on features: no I/O and no torch."""
