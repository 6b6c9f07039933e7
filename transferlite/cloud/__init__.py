"""The deployed stack on AWS: deploy, run, follow, inspect and delete it."""
