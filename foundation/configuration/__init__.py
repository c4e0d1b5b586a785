"""Configuration files: YAML with line numbers, and every mistake as a finding with its position and its fix."""
