"""Maps: which electrodes, moments and frequencies a score is made of, found without training."""
