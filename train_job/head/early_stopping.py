"""Early stopping: end a fit when the validation loss has not improved for a number of epochs."""


def is_finished(done: int, best_epoch: int, epochs: int, patience: int | None) -> bool:
    """Return whether a fit ends after ``done`` epochs, the best of them ``best_epoch`` by validation loss.

    It ends after ``epochs``, or once ``patience`` epochs in a row were no better than the best one. ``patience`` None
    never stops early.
    """
    return done == epochs or (patience is not None and done - best_epoch >= patience)
