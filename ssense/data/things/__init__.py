"""THINGS-EEG2 and THINGS-MEG: responses of many subjects to images."""
