"""Reading recordings, writing synthetic ones, shards of spectrograms, seeded splits."""
