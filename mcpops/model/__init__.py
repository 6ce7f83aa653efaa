"""The nouns, as frozen dataclasses without input or output."""
