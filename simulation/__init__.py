"""Simulation of the whole system on local servers, with faults, and a ledger of expected and actual results.

Photos are trained on, uploaded and labelled; Spot kills jobs, and timeouts kill the function. People label some of the
photos, which starts a retraining; a worse version is refused; a damaged version is promoted by hand, refused by the
function and rolled back. Meanwhile S3 answers 503, slowly, with half a body, or not at all.
"""
