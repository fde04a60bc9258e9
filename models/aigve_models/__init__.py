"""The zoo: one readable network file (``.py``) and one card (``.toml``) a network."""
