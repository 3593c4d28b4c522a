"""The label names, in the one order that every file, tensor and table uses."""

# The four classes of the BACH challenge (Koné & Boulmane 2018, section 2.1).
CLASSES = ("normal", "benign", "insitu", "invasive")

# BISQUE says only "malignant": in situ and invasive are not distinguished there.
MALIGNANT = "malignant"

LABELS = (*CLASSES, MALIGNANT)
