"""Registry of published models: immutable versions, channels that point to them, and local copies."""
