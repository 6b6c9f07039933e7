"""The function as others would write it in twenty lines, each on another runtime: what ``lambda_peers`` measures."""
