"""What Koné & Boulmane (2018) published, to stand beside what is measured here."""

PAPER = "Koné & Boulmane (2018)"

# Their Table 1: the validation accuracy of each node and of the whole. Init is BACH, Ext is BISQUE.
PUBLISHED = {
    "init": {"carci": 1.00, "norbe": 0.98, "invis": 1.00, "whole": 0.99},
    "init+ext": {"carci": 0.98, "norbe": 0.965, "whole": 0.963},
}

# What their text says of the whole system: its right answers, of how many images.
RIGHT = {"init": (99, 100), "init+ext": (104, 108)}

# Of Figure 3, the picture of their results, no cell is known as a number.
FIGURE_3 = (
    f"Of Figure 3 of {PAPER}, the totals are all that is repeated here: the whole system was wrong on 1 of 100 "
    "images of BACH (init), and right on 104 of 108 with BISQUE (init+ext). The cells of that figure are not known "
    "here as numbers, so the confusion matrices below stand without a twin."
)
