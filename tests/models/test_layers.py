"""Probing and layer selection, on tiny networks with one trap each and on a dozen families of the zoo."""

from __future__ import annotations

import pytest
import torch
import zoo
from torch import Tensor, nn
from torchvision import models
from torchvision.ops.misc import Permute

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import as_maps, split_run
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.spec.catalog import model_names


class Traps(nn.Module):
    """Called twice, never called, two outputs, in-place, 1x1 maps, no maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.body = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)])
        self.squeeze = nn.Conv2d(5, 5, 8)
        self.idle = nn.Conv2d(3, 3, 1)
        self.dropout = nn.Dropout2d()
        self.fc = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.pool(self.relu(self.conv1(x)))
        for conv in self.body:
            x = self.relu(conv(x))
        x = self.squeeze(self.dropout(x))
        return self.fc(x.flatten(1))


@pytest.fixture
def traps() -> ModelLayers:
    return probe_layers(Traps().eval(), (3, 16, 16), "traps")


def test_layers_stand_in_the_order_in_which_they_finish(traps: ModelLayers) -> None:
    seen = [(info.name, info.kind, info.shape, info.spatial) for info in traps]
    assert seen == [
        ("conv1", "Conv2d", (4, 16, 16), True),
        ("body.0", "Conv2d", (4, 8, 8), True),
        ("body.1", "Conv2d", (5, 8, 8), True),
        ("relu", "ReLU", (5, 8, 8), True),  # of three runs the last counts
        ("dropout", "Dropout2d", (5, 8, 8), True),
        ("squeeze", "Conv2d", (5, 1, 1), False),
    ]
    orders = [info.order for info in traps]
    assert orders == sorted(set(orders))
    assert traps["relu"].kind == "ReLU"
    with pytest.raises(KeyError):
        traps["pool"]


@pytest.mark.parametrize(
    ("selectors", "meant"),
    [
        (["last-conv"], ("relu@3",)),  # after the activation
        (["conv"], ("conv1", "body.0", "body.1")),
        (["stages"], ("conv1", "relu@3")),
        (["low-mid-high"], ("conv1", "relu@3")),
        (["low"], ("conv1",)),
        (["mid"], ("relu@3",)),
        (["high"], ("relu@3",)),
        (["body.*"], ("body.0", "body.1")),
        (["relu", "conv1"], ("conv1", "relu@1", "relu@2", "relu@3")),
        (["relu, conv1,", "c*", " body.[1] "], ("conv1", "body.1", "relu@1", "relu@2", "relu@3")),
        (["*"], ("conv1", "body.0", "body.1", "relu@1", "relu@2", "relu@3", "dropout")),
    ],
)
def test_selectors(traps: ModelLayers, selectors: list[str], meant: tuple[str, ...]) -> None:
    assert traps.resolve(selectors) == meant


@pytest.mark.parametrize(
    ("selector", "said", "mends"),
    [
        ("squeeze", "single position (1x1)", "The last larger maps before it are those of 'dropout'."),
        ("squ*", "single position (1x1)", "cnnviz layers traps"),
        ("pool", "it returns a tuple", "cnnviz layers traps"),
        ("fc", "a tensor of shape (1, 6)", "cnnviz layers traps"),
        ("idle", "does not run", "cnnviz layers traps"),
        ("body", "does not run", "'body.0'"),
        ("conv2", "traps has no layer 'conv2'", "'conv1'"),
        ("lastconv", "no layer 'lastconv'", "'last-conv'"),
        ("layer4*", "no layer 'layer4*'", "cnnviz layers traps"),
        ("\x1b[2J", "no layer '\\x1b[2J'", "cnnviz layers traps"),
        (" , ", "no layer is named", "cnnviz layers traps"),
    ],
)
def test_a_selector_without_a_layer(traps: ModelLayers, selector: str, said: str, mends: str) -> None:
    with pytest.raises(UsageError) as caught:
        traps.resolve([selector])
    assert said in caught.value.what
    assert mends in caught.value.fix
    assert caught.value.where == "--layer"


def test_every_module_is_in_the_tree_and_those_that_are_no_layers_say_why(traps: ModelLayers) -> None:
    net = Traps()
    assert list(traps.kinds.items()) == [(name, type(module).__name__) for name, module in net.named_modules() if name]
    layers = {info.name for info in traps}
    assert (
        list(traps.not_layers) == [name for name in traps.kinds if name not in layers] == ["pool", "body", "idle", "fc"]
    )


def test_marks_are_the_words_that_mean_a_layer(traps: ModelLayers) -> None:
    assert traps.words_by_layer() == {
        "conv1": ("stages", "low"),
        "relu": ("last-conv", "stages", "mid", "high"),
    }
    for name, words in traps.words_by_layer().items():
        assert all(name in {split_run(meant)[0] for meant in traps.resolve([word])} for word in words)


def test_maps_of_one_position_are_layers_where_there_are_no_others() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).eval()
    layers = probe_layers(net, (3, 8, 8), "flat")
    assert layers.resolve(["conv"]) == ("0",)
    assert layers.resolve(["1"]) == layers.resolve(["last-conv"]) == layers.resolve(["high"]) == ("1",)
    pooled = nn.Sequential(nn.Conv2d(3, 4, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    with pytest.raises(UsageError, match="'1' of pooled has maps of a single position"):
        probe_layers(pooled, (3, 8, 8), "pooled").resolve(["1"])


def test_probing_leaves_no_trace() -> None:
    net = Traps().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    probe_layers(net, (3, 16, 16), "traps")
    with pytest.raises(RuntimeError):
        probe_layers(net, (3, 5, 5), "traps")  # too small for `squeeze`
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks or module.training for module in net.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert torch.is_grad_enabled()
    assert torch.overrides._get_current_function_mode() is None


# last-conv, then stages
CHOICES = {
    "efficientnet_lite0": ("head", "stages.0 stages.1 stages.2 stages.4 head"),
    "efficientnet_lite2": ("head", "stages.0 stages.1 stages.2 stages.4 head"),
    "alexnet": ("features", "features.1 features.4 features.11 features"),
    "vgg16": ("features", "features.3 features.8 features.15 features.22 features.29 features"),
    "resnet18": ("layer4", "relu layer1 layer2 layer3 layer4"),
    "resnet50": ("layer4", "relu layer1 layer2 layer3 layer4"),
    "densenet121": (
        "features",
        "features.relu0 features.denseblock1 features.denseblock2 features.denseblock3 features",
    ),
    "googlenet": ("inception5b", "conv1 conv3 inception3b inception4e inception5b"),
    "inception_v3": (
        "Mixed_7c",
        "Conv2d_1a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c",
    ),
    "squeezenet1_1": ("classifier.2", "features.1 features.4 features.7 features"),
    "mobilenet_v2": ("features", "features.1 features.3 features.6 features.13 features"),
    "mobilenet_v3_small": ("features", "features.0 features.1 features.3 features.8 features"),
    "shufflenet_v2_x0_5": ("conv5", "conv1 stage2.0.branch2.2 stage2 stage3 conv5"),
    "mnasnet0_5": ("layers", "layers.7 layers.8 layers.9 layers.11 layers"),
    "regnet_y_400mf": (
        "trunk_output",
        "stem trunk_output.block1 trunk_output.block2 trunk_output.block3 trunk_output",
    ),
    "convnext_tiny": ("features", "features.1 features.3 features.5 features"),
    "swin_t": ("norm", "features.1 features.3 features.5 norm"),
    "maxvit_t": ("blocks.3", "stem blocks.0 blocks.1 blocks.2 blocks.3"),
    "vit_b_16": ("encoder.layers.encoder_layer_11.ln_1", "encoder.layers.encoder_layer_11.ln_1"),
}


def probed(name: str) -> ModelLayers:
    return zoo.outline(name)[1]


@pytest.mark.parametrize("name", CHOICES)
def test_the_default_layers_of_a_family(name: str) -> None:
    layers = probed(name)
    last, stages = CHOICES[name][0], CHOICES[name][1].split()
    assert layers.resolve(["last-conv"]) == (last,)
    assert layers.resolve(["stages"]) == tuple(stages)
    ends = (stages[0], stages[len(stages) // 2], stages[-1])
    assert layers.resolve(["low-mid-high"]) == tuple(dict.fromkeys(ends))
    assert all(layers[name].kind == "Conv2d" for name in layers.resolve(["conv"]))


def test_maps_that_their_shape_does_not_tell_are_not_offered() -> None:
    # (1, 8, 4, 2), rows first: two maps of 8 x 4, which by shape alone are as well eight maps of 4 x 2.
    turns = Permute([0, 2, 3, 1]), Permute([0, 3, 1, 2])
    net = nn.Sequential(nn.Conv2d(3, 2, 1), *turns, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = probe_layers(net.eval(), (3, 8, 4), "oblong")
    assert [(info.name, info.shape) for info in layers] == [("0", (2, 8, 4)), ("2", (2, 8, 4)), ("3", (2, 1, 1))]
    with pytest.raises(UsageError, match=r"it returns a tensor of shape \(1, 8, 4, 2\)"):
        layers.resolve(["1"])
    # Eight maps of 8 x 6 have the proportions of the input; six of 8 x 8 would not.
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = probe_layers(net.eval(), (3, 8, 6), "oblong")
    assert [(info.name, info.shape) for info in layers] == [("0", (8, 8, 6)), ("1", (8, 1, 1))]


def test_an_inner_layer_of_swin_is_read_with_channels_first() -> None:
    layers = probed("swin_t")
    assert layers["features.1"].shape == (96, 56, 56)
    assert layers["features.7"].shape == (768, 7, 7)
    assert layers["permute"].shape == (768, 7, 7)


def test_maxvits_windows_are_no_maps() -> None:
    # (1, 49, 64, 64) after the axes are swapped: 64 windows of 49 positions and 64 channels.
    layers = probed("maxvit_t")
    assert {info.shape[1:] for info in layers} == {(112, 112), (56, 56), (28, 28), (14, 14), (7, 7), (1, 1)}
    assert not any("attn_layer" in info.name for info in layers)


def test_after_vits_last_attention_patches_no_longer_reach_the_score() -> None:
    """Why last-conv is the input of the last attention there: at its output the gradient is the class token's."""
    net = models.VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3).eval()
    with torch.no_grad():
        net.heads.head.weight.normal_()  # torchvision starts the head at zero
    layers = probe_layers(net, (3, 8, 8), "vit")
    assert layers.resolve(["last-conv"]) == ("encoder.layers.encoder_layer_1.ln_1",)

    kept: dict[str, Tensor] = {}
    for name in ("encoder.layers.encoder_layer_1.ln_1", "encoder.layers.encoder_layer_1.ln_2"):
        net.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: kept.update({name: output}))
    score = net(torch.rand(1, 3, 8, 8))[0, 0]
    before, after = torch.autograd.grad(score, list(kept.values()))
    for gradient, reaches in ((before, True), (after, False)):
        maps = as_maps(gradient)
        assert maps is not None
        assert bool(maps.abs().max() > 0) is reaches


@pytest.mark.slow
@pytest.mark.parametrize("name", model_names("classification"))
def test_every_model_has_default_layers(name: str) -> None:
    layers = probed(name)
    (last,) = layers.resolve(["last-conv"])
    stages = layers.resolve(["stages"])
    assert layers[last].spatial
    assert [layers[name].order for name in stages] == sorted(layers[name].order for name in stages)
    assert len({layers[name].shape[1:] for name in stages}) == len(stages)
    assert layers.resolve(["conv"])
    if not name.startswith("vit"):
        assert layers[last].shape[1:] == layers[stages[-1]].shape[1:]
        assert len(stages) >= 4


@pytest.mark.parametrize(
    ("shape", "maps"),
    [
        ((2, 5, 7, 7), (2, 5, 7, 7)),
        ((2, 7, 7, 5), (2, 5, 7, 7)),
        ((2, 7, 7, 7), (2, 7, 7, 7)),
        ((2, 3, 4, 6), (2, 3, 4, 6)),
        ((2, 49, 5), (2, 5, 7, 7)),
        ((2, 50, 5), (2, 5, 7, 7)),
        ((2, 51, 5), (2, 5, 7, 7)),
        ((2, 416, 5), (2, 5, 20, 20)),
        ((2, 417, 5), None),
        ((2, 0, 5), None),
        ((2, 5), None),
        ((2, 3, 4, 5, 6), None),
    ],
)
def test_maps_are_told_by_shape(shape: tuple[int, ...], maps: tuple[int, ...] | None) -> None:
    found = as_maps(torch.zeros(shape))
    assert (None if found is None else tuple(found.shape)) == maps


def test_maps_are_views_that_gradients_pass() -> None:
    tokens = torch.arange(2 * 5 * 3.0).reshape(2, 5, 3).requires_grad_()
    maps = as_maps(tokens)
    assert maps is not None
    assert maps.data_ptr() == tokens[:, 1:].data_ptr()
    assert maps[1, 2].tolist() == [[tokens[1, 1, 2].item(), tokens[1, 2, 2].item()], [tokens[1, 3, 2].item(), 29.0]]
    maps.sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[:, 0].eq(0).all()
    assert tokens.grad[:, 1:].eq(1).all()
    assert as_maps(torch.zeros(2, 3, 4, 4, dtype=torch.int64)) is None
