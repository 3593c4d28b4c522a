"""What a training says of classes that have unequally many images, or count unequally in the loss."""

from bach_keras.recipe import Recipe
from bach_keras.tree import Node

# From here on a class is called rare: BACH and BISQUE, alone and joined, stay below.
RARE = 3


def in_words(node: Node, recipe: Recipe, counts: list[int]) -> str:
    """Return a sentence on the training images of each class, or "" where there is nothing to say."""
    weights = recipe.weights_for(counts)
    if weights is None:
        if max(counts) < RARE * min(counts):
            return ""
        images = " and ".join(f"{count} of {name}" for name, count in zip(node.classes, counts, strict=True))
        return f"training images: {images}; with --class-weights balanced both classes count alike in the loss"
    each = [f"{name} {weight:.3g} ({count})" for name, weight, count in zip(node.classes, weights, counts, strict=True)]
    kind = "balanced" if recipe.class_weights == "balanced" else "stated"
    return (
        f"class weights, {kind} (training images): {', '.join(each)}; validation images count likewise in the accuracy "
        "and the loss that choose the best epoch"
    )
