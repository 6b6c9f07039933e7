"""The commands train, check, plan, features and inspect."""
