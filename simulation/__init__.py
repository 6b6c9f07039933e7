"""The whole loop under faults, on local servers: what is uploaded, trained and answered, and a ledger that balances.

A schedule fires, a training job on Spot is killed and goes on, a version is promoted, photos are uploaded and answered,
more labels come, a retrain pays for the new photos alone, a worse challenger is refused, a damaged version is refused
by the function, and the channel goes back. Meanwhile S3 answers 503, slowly, or half of a body.
"""
