"""ResNeXt-50 (32x4d) in plain PyTorch, with torchvision's module names: the peer of the benchmarks and the goldens."""

from torch import nn

BLOCKS = (3, 4, 6, 3)
CARDINALITY = 32


class Bottleneck(nn.Module):
    """One block of Xie et al., Figure 3(c), torchvision's order of operations."""

    def __init__(self, inputs, width, filters, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=CARDINALITY, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, filters, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != filters:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class TorchResNeXt(nn.Module):
    """The complete network: images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, count in enumerate(BLOCKS):
            filters = 256 * 2**stage
            blocks = nn.Sequential()
            for block in range(count):
                blocks.append(Bottleneck(inputs, filters // 2, filters, 2 if stage and not block else 1))
                inputs = filters
            setattr(self, f"layer{stage + 1}", blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def stages(self, x):
        """Return the outputs of the stem and of the four stages."""
        outputs = [self.maxpool(self.relu(self.bn1(self.conv1(x))))]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            outputs.append(stage(outputs[-1]))
        return outputs

    def forward(self, x):
        return self.fc(self.avgpool(self.stages(x)[-1]).flatten(1))
