"""The steps of the training job: prepare data, train, export, compare, report, publish; and SageMaker's entry point."""
