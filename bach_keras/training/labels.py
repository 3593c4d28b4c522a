"""What images can train by their labels: each node needs images of both its answers."""

from collections.abc import Collection

from bach_keras.tree import NODES, Node, trainable
from datasets.catalogue import CONFIGS
from datasets.errors import UserError
from datasets.sets import open_set


def check_answers(node: Node, labels: Collection[str], config: str) -> None:
    """Refuse to train a node on images of these labels where one of its answers is not among them."""
    for answer, own in zip(node.classes, node.labels, strict=True):
        if not set(own) & set(labels):
            raise UserError(
                f"{node.title} separates {node.classes[0]} from {node.classes[1]}, but no training image of config "
                f"{config} is labelled {' or '.join(own)}, so it cannot learn {answer}. By its labels {config} "
                f"{_can(labels)}: take {node.name} from a run on other images, or join some, as in --config "
                f"bach+{config}."
            )


def check_whole_tree(config: str, data_dir=None) -> None:
    """Refuse to train a whole tree on a user's own images, or a join, that cannot train every node."""
    if config in CONFIGS:
        return
    labels = {record.label for record in open_set(config, data_dir).records}
    if len(trainable(labels)) < len(NODES):
        raise UserError(
            f"Table 1 is of whole trees, and by its labels {config} {_can(labels)}: join it with other images, as in "
            f"--config bach+{config}, or train what it can with `train`."
        )


def _can(labels: Collection[str]) -> str:
    nodes = trainable(labels)
    return f"can train {' and '.join(nodes)} alone" if nodes else "can train no node"
