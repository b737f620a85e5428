"""A trained model with what signals go through before it: used on new data, kept in a folder."""
