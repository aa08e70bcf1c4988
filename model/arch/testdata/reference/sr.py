"""Networks that enlarge pictures, as spandrel loads them from each of their namings.

    pip install torch spandrel numpy && python sr.py
"""

import spandrel
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
from spandrel.architectures.PLKSR.__arch.RealPLKSR import RealPLKSR
from spandrel.architectures.SPAN.__arch.span import SPAN

from reference import save, shapes, weights

about = f"spandrel {spandrel.__version__}"


def golden(name, state, sizes, gain=1.0):
    net = spandrel.ModelLoader().load_from_state_dict(weights(state, gain)).model.eval()
    save(name, about, state, gain, net, sizes)


for scale, features, convs in (4, 16, 4), (2, 8, 2), (1, 8, 1):
    state = shapes(SRVGGNetCompact(num_feat=features, num_conv=convs, upscale=scale))
    golden(f"compact-x{scale}", state, [(1, 8, 8), (2, 5, 12), (1, 1, 7)])


def rrdb(first, block, conv, trunk, ups, high, last, channels=3, features=8, growth=32, blocks=2):
    state = {}

    def add(key, n_in, n_out):
        state[f"{key}.weight"], state[f"{key}.bias"] = (n_out, n_in, 3, 3), (n_out,)

    add(first, channels, features)
    for i in range(blocks):
        for d in range(1, 4):
            for c in range(1, 6):
                add(block.format(i, d) + conv.format(c), features + (c - 1) * growth, features if c == 5 else growth)
    add(trunk, features, features)
    for up in ups:
        add(up, features, features)
    add(high, features, features)
    add(last, features, 3)
    return state


basicsr = dict(first="conv_first", block="body.{}.rdb{}", conv=".conv{}", trunk="conv_body", high="conv_hr", last="conv_last")
bsrgan = dict(first="conv_first", block="RRDB_trunk.{}.RDB{}", conv=".conv{}", trunk="trunk_conv", high="HRconv", last="conv_last")
old = dict(first="model.0", block="model.1.sub.{}.RDB{}", conv=".conv{}.0", trunk="model.1.sub.2")
sizes = [(1, 8, 8), (2, 4, 8), (1, 8, 4)]
golden("rrdb-basicsr-x4", rrdb(**basicsr, ups=["conv_up1", "conv_up2"]), sizes)
golden("rrdb-basicsr-x2", rrdb(**basicsr, ups=["conv_up1", "conv_up2"], channels=12), sizes)
golden("rrdb-basicsr-x1", rrdb(**basicsr, ups=["conv_up1", "conv_up2"], channels=48), sizes)
golden("rrdb-bsrgan-x4", rrdb(**bsrgan, ups=["upconv1", "upconv2"]), sizes)
golden("rrdb-bsrgan-x2", rrdb(**bsrgan, ups=["upconv1"]), sizes)
golden("rrdb-old-x1", rrdb(**old, ups=[], high="model.2", last="model.4"), sizes)
golden("rrdb-old-x2", rrdb(**old, ups=["model.3"], high="model.5", last="model.7"), sizes)
golden("rrdb-old-x4", rrdb(**old, ups=["model.3", "model.6"], high="model.8", last="model.10"), sizes)
golden("rrdb-old-x8", rrdb(**old, ups=["model.3", "model.6", "model.9"], high="model.11", last="model.13"), [(1, 4, 4), (2, 3, 4), (1, 1, 5)])

for name, options in ("span-x4", dict(upscale=4)), ("span-x2-no-norm", dict(upscale=2, norm=False)):
    # Smaller weights, since samples are up to 255: larger ones make it answer to rounding alone.
    golden(name, shapes(SPAN(num_in_ch=3, num_out_ch=3, feature_channels=12, **options)), [(1, 8, 8), (2, 5, 12), (1, 1, 7)], gain=0.5)

for name, options in ("realplksr-x4", {}), ("realplksr-x2-layer-norm", dict(upscaling_factor=2, layer_norm=True)), ("realplksr-x1-no-ea", dict(upscaling_factor=1, use_ea=False, kernel_size=13)):
    golden(name, shapes(RealPLKSR(dim=16, n_blocks=2, **options)), [(1, 8, 8), (2, 5, 12), (1, 3, 7)])
