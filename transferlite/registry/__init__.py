"""Published model versions and the channels that point to them."""
