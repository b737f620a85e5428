"""The science of SSENSE: recordings, spectrograms, encoders, masks, training, retrieval.

Nothing in this package imports ray, optuna or mlflow.
"""

from ssense.cli.interrupt import is_own_command, show_interrupts_in_one_line

if is_own_command():  # before its own imports
    show_interrupts_in_one_line()
