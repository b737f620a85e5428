"""Tables of sentences or of words as people have them: their files, columns, times and units."""
