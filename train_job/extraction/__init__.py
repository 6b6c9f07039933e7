"""Run the frozen backbone over new photos and store their feature rows."""
