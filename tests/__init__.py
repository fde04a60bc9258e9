"""A package of its own: torch-fidelity installs one named `tests`, which would come first."""
