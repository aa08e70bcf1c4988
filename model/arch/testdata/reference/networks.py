"""Networks that no package has: ICNet, written from its paper, and SSCD around torchvision's ResNet."""

import torch
import torch.nn.functional as F
import torchvision
from torch import nn


class SLAM(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side
        self.linear = nn.Sequential(nn.Linear(side * side, 512), nn.ReLU(), nn.Linear(512, 1), nn.Sigmoid())

    def forward(self, x):
        y = x
        if x.shape[2:] != (self.side, self.side):
            y = F.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=True)
        return x * self.linear(y.flatten(2)).unsqueeze(3)


class ConvNorm(nn.Module):
    def __init__(self, n_in, n_out, size):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, size, padding=size // 2)
        self.bn = nn.BatchNorm2d(n_out)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class ToMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_map = nn.Sequential(nn.Conv2d(512, 1, 1), nn.Sigmoid())

    def forward(self, x):
        return self.to_map(x)


class ICNet(nn.Module):
    def __init__(self):
        super().__init__()
        one, two = list(torchvision.models.resnet18().children()), list(torchvision.models.resnet18().children())
        self.b1_1, self.b1_1_slam = nn.Sequential(*one[:5]), SLAM(32)
        self.b1_2, self.b1_2_slam = one[5], SLAM(32)
        self.b2_1, self.b2_1_slam = nn.Sequential(*two[:5]), SLAM(32)
        self.b2_2, self.b2_2_slam = two[5], SLAM(32)
        self.b2_3, self.b2_3_slam = two[6], SLAM(16)
        self.b2_4, self.b2_4_slam = two[7], SLAM(8)
        self.up1, self.up2 = ConvNorm(128, 256, 1), ConvNorm(512, 256, 1)
        self.to_map_f, self.to_map_f_slam, self.to_map = ConvNorm(512, 512, 3), SLAM(32), ToMap()
        self.to_score_f, self.to_score_f_slam = ConvNorm(512, 512, 3), SLAM(32)
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1), nn.Sigmoid())

    def forward(self, x):
        h, w = x.shape[2:]
        small = F.interpolate(x, (h // 2, w // 2), mode="bilinear", align_corners=True)
        detail = self.b1_2_slam(self.b1_2(self.b1_1_slam(self.b1_1(x))))
        context = small
        for stage in "b2_1", "b2_2", "b2_3", "b2_4":
            context = getattr(self, f"{stage}_slam")(getattr(self, stage)(context))
        context = F.interpolate(context, (h // 8, w // 8), mode="bilinear", align_corners=True)
        both = torch.cat([self.up1(detail), self.up2(context)], 1)
        y = self.to_score_f_slam(self.to_score_f(both)).mean((2, 3))
        return {"score": self.head(y), "map": self.to_map(self.to_map_f_slam(self.to_map_f(both)))}


class SSCD(nn.Module):
    """The model of facebookresearch/sscd-copy-detection with torchvision's ResNet."""

    def __init__(self, net, dims):
        super().__init__()
        self.backbone = net(num_classes=dims)
        self.backbone.avgpool = nn.Identity()

    def forward(self, x):
        b = self.backbone
        x = b.maxpool(b.relu(b.bn1(b.conv1(x))))
        x = b.layer4(b.layer3(b.layer2(b.layer1(x))))
        x = F.avg_pool2d(x.clamp(min=1e-6).pow(3), x.shape[2:]).pow(1 / 3)
        return F.normalize(b.fc(torch.flatten(x, 1)))
