"""Makes the exported networks beside it, with PyTorch 2.5.1's two exporters and onnxscript: python make_exports.py FOLDER

The newer exporter does not take the network "viewed", whose padding hangs on the size.
"""
import glob, sys, onnx, torch, warnings
import torch.nn as nn, torch.nn.functional as F
warnings.filterwarnings("ignore")
torch.manual_seed(1)

class Shuffle(nn.Module):
    def __init__(self, r=2):
        super().__init__()
        self.c1, self.c2, self.up = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 3 * r * r, 3, 1, 1), nn.PixelShuffle(r)
        self.r = r
    def forward(self, x):
        y = self.up(self.c2(F.leaky_relu(self.c1(x), 0.2)))
        return y + F.interpolate(x, scale_factor=self.r, mode="nearest")

class RDB(nn.Module):
    def __init__(self, nf, gc):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(nf, gc, 3, 1, 1), nn.Conv2d(nf + gc, gc, 3, 1, 1), nn.Conv2d(nf + 2 * gc, nf, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, True)
    def forward(self, x):
        x1 = self.lrelu(self.conv1(x))
        x2 = self.lrelu(self.conv2(torch.cat((x, x1), 1)))
        return self.conv3(torch.cat((x, x1, x2), 1)) * 0.2 + x

class RRDB(nn.Module):
    def __init__(self, unshuffle=1, nf=4):
        super().__init__()
        self.u = unshuffle
        self.conv_first = nn.Conv2d(3 * unshuffle ** 2, nf, 3, 1, 1)
        self.body = nn.Sequential(RDB(nf, 2), RDB(nf, 2))
        self.conv_up1, self.conv_up2, self.conv_last = nn.Conv2d(nf, nf, 3, 1, 1), nn.Conv2d(nf, nf, 3, 1, 1), nn.Conv2d(nf, 3, 3, 1, 1)
    def forward(self, x):
        if self.u > 1:
            x = F.pixel_unshuffle(x, self.u)
        f = self.conv_first(x)
        f = f + self.body(f)
        f = F.leaky_relu(self.conv_up1(F.interpolate(f, scale_factor=2, mode="nearest")), 0.2)
        f = F.leaky_relu(self.conv_up2(F.interpolate(f, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(f)

class Viewed(nn.Module):
    """pixel unshuffle and shuffle by views, a padded window and a size that is computed"""
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(12, 12, 3, 1, 1)
    def forward(self, x):
        b, c, h, w = x.shape
        ph, pw = (4 - h % 4) % 4, (4 - w % 4) % 4
        x = F.pad(x, (0, pw, 0, ph), "reflect")
        H, W = h + ph, w + pw
        y = x.view(b, c, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, c * 4, H // 2, W // 2)
        y = self.c(y)
        y = y.view(b, c, 2, 2, H // 2, W // 2).permute(0, 1, 4, 2, 5, 3).reshape(b, c, H, W)
        y = F.interpolate(y, size=(H * 2, W * 2), mode="bilinear", align_corners=False)
        return y[:, :, :h * 2, :w * 2]

class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.d, self.u, self.o = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 8, 4, 2, 1), nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 3, 3, 1, 1)
    def forward(self, x):
        a = F.relu(self.a(x))
        return self.o(torch.cat((a, self.u(F.relu(self.d(a)))), 1)) 

class Attention(nn.Module):
    """channel attention, a layer norm over channels and pixels that attend to each other in windows"""
    def __init__(self, w=4):
        super().__init__()
        self.w = w
        self.c, self.n, self.qkv, self.o = nn.Conv2d(3, 8, 3, 1, 1), nn.LayerNorm(8), nn.Linear(8, 24), nn.Conv2d(8, 12, 3, 1, 1)
    def forward(self, x):
        y = self.c(x)
        b, c, h, w = y.shape
        s = self.w
        t = self.n(y.permute(0, 2, 3, 1))
        t = t.view(b, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)
        q, k, v = self.qkv(t).chunk(3, -1)
        t = torch.softmax(q @ k.transpose(-2, -1) * 0.35, -1) @ v
        t = t.view(b, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        y = y + t.permute(0, 3, 1, 2)
        return F.pixel_shuffle(self.o(y), 2)

nets = {"shuffle": Shuffle(2), "rrdb_unshuffled": RRDB(2), "viewed": Viewed(), "unet": UNet(), "attention": Attention()}
out = sys.argv[1]
x = torch.rand(1, 3, 32, 48)
for name, net in nets.items():
    net.eval()
    try:
        torch.onnx.export(net, x, f"{out}/{name}.legacy.onnx", opset_version=17, input_names=["input"], output_names=["output"],
                          dynamic_axes={"input": {0: "batch", 2: "height", 3: "width"}, "output": {0: "batch", 2: "height", 3: "width"}}, dynamo=False)
    except Exception as e:
        print(name, "legacy", type(e), str(e)[:300])
    try:
        d = torch.export.Dim
        p = torch.onnx.export(net, (x,), dynamo=True, input_names=["input"], output_names=["output"],
                          dynamic_shapes={"x": {0: d("batch", min=1, max=64), 2: 4 * d("h", min=4, max=4096), 3: 4 * d("w", min=4, max=4096)}})
        p.save(f"{out}/{name}.dynamo.onnx")
    except Exception as e:
        print(name, "dynamo", type(e), str(e)[:600])

# What exporters write beside the graph, such as the lines of Python that nodes come from, is left out.
for path in glob.glob(f"{out}/*.onnx"):
    m = onnx.load(path)
    del m.metadata_props[:]
    m.doc_string = m.graph.doc_string = ""
    del m.graph.metadata_props[:]
    for n in list(m.graph.node) + list(m.graph.value_info) + list(m.graph.initializer) + list(m.graph.input) + list(m.graph.output):
        n.doc_string = ""
        del n.metadata_props[:]
    for f in m.functions:
        f.doc_string = ""
        for n in f.node:
            n.doc_string = ""
            del n.metadata_props[:]
    onnx.save(m, path)
    print(path, len(m.functions), len(m.graph.node), sorted({n.domain + ":" + n.op_type for n in m.graph.node}))
