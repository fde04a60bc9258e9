"""From files to frames: probe, decode, sampling and views."""
