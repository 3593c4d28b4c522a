"""How the pixels of an image become the numbers that a network's first convolution takes."""

# Statistics of ImageNet, which torchvision's weights expect.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)

# Every network of this project is given images of ImageNet's mean 0 and deviation 1. One whose weights were trained on
# pixels / 255 alone, "unit", turns them back to that first (``network.resnext.Rescale``).
IMAGENET, UNIT = "imagenet", "unit"
NORMALISATIONS = (IMAGENET, UNIT)
