"""What every page says of its own figures: whether they are synthetic, what they chose, and how far they reach."""

from bach_keras.evidence.page import paragraph

DEVICE = "Research software, not a medical device."


def synthetic(config: str, learned_from) -> str:
    """Return a loud paragraph where members learned from phantoms or phantoms judge them, else ""."""
    if "phantom" in learned_from:
        source = "this system learned from synthetic phantom images. Its answers, and these numbers,"
    elif config == "phantom":
        source = "the images that judge here are phantoms. These numbers"
    else:
        return ""
    return paragraph(f"SYNTHETIC: {source} mean NOTHING about tissue.", "loud")


def chosen_in_words(result: dict) -> str:
    """Return how many of the images that judge also chose something of the system; "" where none did."""
    count = result.get("chosen_on")
    return f"{count} of these images also chose a member's epoch or init, a temperature or a threshold" if count else ""


def chosen(result: dict) -> str:
    """Return a paragraph on the images that judge and also chose something of the system."""
    if words := chosen_in_words(result):
        return paragraph(f"{words}.", "note")
    return paragraph("No member saw these images, nor did they choose an epoch, an init or a threshold.")
