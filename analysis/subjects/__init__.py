"""Claims about people: effects over subjects, and how much subjects differ in them."""
