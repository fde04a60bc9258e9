"""Language and vision-language models that are asked about videos."""
