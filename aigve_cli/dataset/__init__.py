"""From folders and annotations to samples: roles, pairs, prompts, staging."""
