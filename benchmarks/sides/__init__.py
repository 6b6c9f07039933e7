"""The sides that a benchmark compares: programs that it runs in processes of their own, and models of other rules."""
