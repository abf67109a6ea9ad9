"""Texts of others for a terminal or a page: names of classes, details, what any client may publish."""


def printable(text: str) -> str:
    """Return `text` without control characters, line breaks and marks of direction: U+FFFD stands for each."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
