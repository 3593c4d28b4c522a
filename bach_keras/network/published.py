"""The public weights for this network: where they are, their digests, their terms of use, and what they expect."""

import re
from dataclasses import dataclass

from bach_keras.normalisation import IMAGENET, UNIT

BSD, APACHE = "BSD-3-Clause", "Apache-2.0"
CC_BY, CC0 = "CC BY 4.0", "CC0 1.0"
CC_BY_NC = "CC BY-NC 4.0, not for commercial use"

# Where `weights fetch` writes what is for H&E tissue, and everything else: the two starts that have a name in `--init`.
HISTOLOGY = "histology"

_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download"
_FACEBOOK = "https://dl.fbaipublicfiles.com/semiweaksupervision/model_files"


@dataclass(frozen=True)
class Published:
    """A public file of weights.

    ``place`` is a URL, or a repository of the Hugging Face hub, whose ``model.safetensors`` is meant, with the commit
    of ``revision`` if one is known. ``digits`` begin the SHA-256 of the file; they are empty where they are not known
    here, and the page of a URL that shows them is ``page``.
    """

    name: str
    place: str
    digits: str
    licence: str
    trained_on: str
    normalisation: str = IMAGENET
    revision: str = ""
    page: str = ""
    kind: str = IMAGENET  # or HISTOLOGY
    pinned_as: str = ""  # the name of the same weights where a commit is known, which needs no digest from the user

    @property
    def title(self) -> str:
        return f"{self.name}, trained on {self.trained_on}"


def _by_name(name, place, licence, trained_on, **more) -> Published:
    """Return a file whose name ends in the digits that begin its SHA-256, as torchvision's convention has it."""
    return Published(name, place, re.search(r"-([0-9a-f]{8})\.pth$", place)[1], licence, trained_on, **more)


# The licence of weights that were trained on one data set of tissue is that of the data set, as tiatoolbox's page on
# its pretrained models says; CC0 is its word on PCam.
_ALL = (
    _by_name(
        "torchvision", "https://download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth", BSD, "ImageNet"
    ),
    _by_name(
        "torchvision-v2", "https://download.pytorch.org/models/resnext50_32x4d-1a0047aa.pth", BSD, "ImageNet"
    ),
    _by_name(
        "semi-supervised", f"{_FACEBOOK}/semi_supervised_resnext50_32x4-ddb3e555.pth", CC_BY_NC,
        "YFCC100M and ImageNet",
    ),
    _by_name(
        "semi-weakly-supervised", f"{_FACEBOOK}/semi_weakly_supervised_resnext50_32x4-72679e44.pth", CC_BY_NC,
        "hashtags of Instagram and ImageNet",
    ),
    _by_name("timm-a1", f"{_TIMM}/v0.1-rsb-weights/resnext50_32x4d_a1_0-b5a91a1d.pth", APACHE, "ImageNet"),
    _by_name("timm-a1h", f"{_TIMM}/v0.1-rsb-weights/resnext50_32x4d_a1h-0146ab0a.pth", APACHE, "ImageNet"),
    _by_name("timm-a2", f"{_TIMM}/v0.1-rsb-weights/resnext50_32x4d_a2_0-efc76add.pth", APACHE, "ImageNet"),
    _by_name("timm-a3", f"{_TIMM}/v0.1-rsb-weights/resnext50_32x4d_a3_0-3e450271.pth", APACHE, "ImageNet"),
    _by_name("timm-ra", f"{_TIMM}/v0.1-weights/resnext50_32x4d_ra-d733960d.pth", APACHE, "ImageNet"),
    Published(
        "timm/resnext50_32x4d.tv_in1k", "timm/resnext50_32x4d.tv_in1k",
        "c0d85cba49c0e9dedbcf6d4e572e2c5ea5eb68e9d64d0564811fd54d4f72939a", BSD, "ImageNet",
        revision="ac4eef0c61cc63cb64d8c416bf9b518f757bed1f",
    ),
    Published(
        "timm/resnext50_32x4d.a1h_in1k", "timm/resnext50_32x4d.a1h_in1k",
        "b952952a7b3e856b16ebf82fb44d2aa8c502e73ec678976c9e3b970fcd530bd5", APACHE, "ImageNet",
        revision="8af8dd95e2a7538fad74714fc76507d9de9de33c",
    ),
    Published(
        "timm/resnext50_32x4d.a2_in1k", "timm/resnext50_32x4d.a2_in1k",
        "4b4522bcca81d90e486f8cfb92213597b899d68764ce5fc08db37e3352e02a7d", APACHE, "ImageNet",
        revision="1e2fad8de183cfcac6c58dab7f6b519e8d1ffd38",
    ),
    Published(
        "timm/resnext50_32x4d.fb_swsl_ig1b_ft_in1k", "timm/resnext50_32x4d.fb_swsl_ig1b_ft_in1k", "", CC_BY_NC,
        "hashtags of Instagram and ImageNet",
    ),
    Published(
        "timm/resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k", "timm/resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k", "", CC_BY_NC,
        "YFCC100M and ImageNet",
    ),
    Published(
        "kather100k",
        "https://huggingface.co/TIACentre/TIAToolbox_pretrained_weights/resolve/main/resnext50_32x4d-kather100k.pth",
        "", CC_BY, "Kather100K, colorectal H&E, by tiatoolbox", UNIT, kind=HISTOLOGY,
        page="https://huggingface.co/TIACentre/TIAToolbox_pretrained_weights/blob/main/resnext50_32x4d-kather100k.pth",
        pinned_as="1aurent/resnext50_32x4d.tiatoolbox-kather100k",
    ),
    # tiatoolbox's weights with timm's names.
    Published(
        "1aurent/resnext50_32x4d.tiatoolbox-kather100k", "1aurent/resnext50_32x4d.tiatoolbox-kather100k", "", CC_BY,
        "Kather100K, colorectal H&E, by tiatoolbox", UNIT, kind=HISTOLOGY,
        revision="a1628ed1b1a7cc55c5cccedc24747f159ea7a347",
    ),
    Published(
        "pcam", "1aurent/resnext50_32x4d.tiatoolbox-pcam",
        "9e0c7944dd93cf86a3afb4928b63612d4746f55d3157129229734c025adf55cc", CC0,
        "PCam, lymph nodes with metastases of breast cancer, by tiatoolbox", UNIT, kind=HISTOLOGY,
        revision="8b0175fa2bd6a3cb67149ffd13c81281abd7d327",
    ),
)  # fmt: skip

PUBLISHED = {each.name: each for each in _ALL}


def published_as(sha256: str) -> Published | None:
    """Return which public file has this SHA-256; None where it is none of them."""
    return next((each for each in _ALL if each.digits and sha256.startswith(each.digits)), None)
