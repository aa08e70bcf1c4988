"""ResNets as torchvision has them, without their last layer.

    pip install torch torchvision numpy && python resnet.py
"""

import torch
import torchvision

from reference import save, shapes, weights

for name, sizes in ("resnet18", [(1, 64, 64), (2, 49, 70), (1, 33, 32)]), ("resnet50", [(1, 64, 64), (2, 49, 70), (1, 33, 32)]):
    net = getattr(torchvision.models, name)().eval()
    state = shapes(net)
    net.load_state_dict(weights(state, 1.0))
    net.fc = torch.nn.Identity()
    save(name, f"torchvision {torchvision.__version__}", state, 1.0, net, sizes)
