"""One file a metric: the registry finds every module here."""
