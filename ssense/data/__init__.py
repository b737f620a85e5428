"""Recordings and responses to images, read or made up; shards, datasets and seeded splits."""
