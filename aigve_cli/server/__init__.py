"""The REST server: HTTP in front, a queue on disk, one worker process a GPU."""
