"""Find photos and decode them into model inputs."""
