"""The large choices of a network around its cells: resolution, normalisation, and what stands before the image."""

from dataclasses import dataclass

UNSHUFFLES = (1, 2, 3, 4)
NORMALISATIONS = ("batch", "none")
HEADS = ("separable", "plain", "linear")
#: What each choice can be.
CHOICES: dict[str, tuple[object, ...]] = {
    "unshuffle": UNSHUFFLES,
    "normalisation": NORMALISATIONS,
    "aspp": (True, False),
    "low_level": (True, False),
    "head": HEADS,
    "lower_level": (True, False),
}


@dataclass(frozen=True)
class Macro:
    """What a network is besides its cells and widths; the defaults are the paper's network.

    Raises ValueError naming the choice that is impossible.

    >>> import irnas_ray as ir
    >>> ir.Macro(unshuffle=2, normalisation="none").aspp
    True
    """

    #: Factor of the pixel-unshuffle before the stem, undone after the head: 1, 2, 3 or 4.
    unshuffle: int = 1
    #: batch: batch normalisation after every convolution; none: cells are residual blocks that begin as identity.
    normalisation: str = "batch"
    #: Whether an atrous pyramid follows the last cell.
    aspp: bool = True
    #: Whether low-level features are joined to the head's input.
    low_level: bool = True
    #: What makes the image: two separable convolutions and one more (separable), one convolution of what is positive
    #: (plain), or one convolution (linear), which is zero at first in a network that predicts what to take away.
    head: str = "separable"
    #: Whether the middle third of the layers (of one or two: all) works at half the resolution and twice the width, as
    #: in a U-Net.
    lower_level: bool = False

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            value = getattr(self, name)
            # 1 and 1.0 are equal to True, and to each other
            if not any(value == choice and type(value) is type(choice) for choice in values):
                possible = ", ".join(str(choice).lower() for choice in values)
                raise ValueError(f"{name}: {value!r}; possible: {possible}")

    def lower_layers(self, layers: int) -> range:
        """Which of a network's layers work at half the resolution."""
        return range(layers // 3, layers - layers // 3) if self.lower_level else range(0)

    def step(self) -> int:
        """Height and width inside the network are multiples of this many pixels."""
        return self.unshuffle * (2 if self.lower_level else 1)


#: The paper's network.
PAPER = Macro()
