"""From scores to files: records, schema, tables and today's formats."""
