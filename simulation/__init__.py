"""The whole loop under faults, on local servers: what is uploaded, trained and answered, and a ledger that balances.

A schedule fires, jobs on Spot are killed and go on, a version is promoted, photos are uploaded and answered, some are
labelled, a retrain pays for those alone, a worse challenger is refused, a damaged version is refused by the function,
and the channel goes back. Meanwhile S3 answers 503, slowly, half of a body, or does what it was asked and says nothing.
"""
