"""Where the samples of recordings lie, how they are read, and what is wrong with them."""
