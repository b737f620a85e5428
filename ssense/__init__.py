"""The science of SSENSE: recordings, spectrograms, encoders, masks, training, retrieval.

Nothing in this package imports ray, optuna or mlflow.
"""
