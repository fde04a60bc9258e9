"""From samples to scores: plan, produce, run, journal."""
