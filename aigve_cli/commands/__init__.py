"""One file a command: parse, call, print. No mathematics; heavy imports inside the function."""
