"""Which residual network some tensors are of, read off their names and shapes alone."""

import re
from dataclasses import dataclass

# Blocks of the four stages -> the depth by which papers call a network of bottlenecks, or of basic blocks.
_BOTTLENECKS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_BASIC = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}

_BLOCK = re.compile(r"layer([1-4])\.([0-9]{1,4})\.")


@dataclass(frozen=True)
class Shape:
    """The shape of a residual network: groups of its 3x3 convolutions, their width in the first stage, blocks."""

    groups: int
    width: int  # channels of a group
    blocks: tuple[int, ...]
    is_basic: bool  # two 3x3 convolutions a block, as in ResNet-18
    extras: tuple[str, ...]  # in words, what a plain network does not have

    @property
    def depth(self) -> int | None:
        """The depth by which papers call it; None where it is none of theirs."""
        return (_BASIC if self.is_basic else _BOTTLENECKS).get(self.blocks)

    @property
    def title(self) -> str:
        blocks = f" of {', '.join(map(str, self.blocks))} blocks"
        depth = f"-{self.depth}" if self.depth else ""
        family = "ResNeXt" if self.groups > 1 else "ResNet" if self.width == 64 else "Wide ResNet"
        size = f" ({self.groups}x{self.width}d)" if self.groups > 1 or self.width not in (64, 128) else ""
        with_extras = f" with {' and '.join(self.extras)}" if self.extras else ""
        return f"{family}{depth}{size}{'' if depth else blocks}{with_extras}"


RESNEXT50 = Shape(32, 4, (3, 4, 6, 3), False, ())


def recognise(shapes: dict[str, list[int]]) -> Shape | None:
    """Return the shape of a network by torchvision's names -> shapes; None where they are not one's."""
    kernel = shapes.get("layer1.0.conv2.weight", [])
    found = [set() for _ in range(4)]
    for name in shapes:
        if block := _BLOCK.match(name):
            found[int(block[1]) - 1].add(int(block[2]))
    if len(kernel) != 4 or not all(kernel) or kernel[0] % kernel[1] or not all(found):
        return None
    extras = {
        "squeeze-and-excitation": "layer1.0.se.fc1.weight" in shapes,
        "a deep stem": "conv1.0.weight" in shapes,
        "averages in its shortcuts": "layer2.0.downsample.1.weight" in shapes
        and len(shapes["layer2.0.downsample.1.weight"]) == 4,
    }
    return Shape(
        groups=kernel[0] // kernel[1],
        width=kernel[1],
        blocks=tuple(map(len, found)),
        is_basic="layer1.0.conv3.weight" not in shapes,
        extras=tuple(words for words, is_so in extras.items() if is_so),
    )
