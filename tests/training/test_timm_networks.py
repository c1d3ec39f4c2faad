"""Networks of timm by name: their options are taken or refused, never ignored."""

import pytest
import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.timm_networks import create_network, has_fixed_size, is_known

VIT, CNN, HVIT = "test_vit.r160_in1k", "test_resnet.r160_in1k", "hvit_tiny"
SIZES = {VIT: 32, CNN: 32, HVIT: 128, "test_byobnet": 32, "vgg11": 32, "careless": 32}


def create(name: str, **args) -> nn.Module:
    return create_network(name, SIZES[name], pretrained=None, args=args)


def refused(name: str, size: int | None = None, **args) -> str:
    """The message with which a network is refused."""
    with pytest.raises(ConfigError) as caught:
        create_network(name, size or SIZES[name], pretrained=None, args=args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Careless(nn.Module):
    """As some networks of older releases of timm: takes any option, and says nothing of those it does not have."""

    def __init__(self, num_classes: int = 0, width: int = 4, **kwargs: object) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layer = nn.Conv2d(3, width, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).mean(dim=(2, 3))


default_cfgs = generate_default_cfgs({"careless": {"input_size": (3, 32, 32)}})


@register_model
def careless(pretrained: bool = False, **kwargs: object) -> nn.Module:
    return build_model_with_cfg(Careless, "careless", pretrained, **kwargs)


@pytest.mark.parametrize("name", [VIT, CNN, HVIT, "test_byobnet"])
def test_options_reach_the_network(name):
    def dropping(network: nn.Module) -> int:
        return sum(getattr(module, "drop_prob", 0) > 0 for module in network.modules())

    assert dropping(create(name)) == 0
    assert dropping(create(name, drop_path_rate=0.3)) > 0


def test_sizes_of_a_network_are_options():
    network = create(HVIT, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])
    assert network(torch.zeros(1, 3, 128, 128)).shape == (1, 128)
    assert create("test_byobnet", stem_chs=8).stem.conv.out_channels == 8  # which its constructor does not name
    assert create("careless", width=7).layer.out_channels == 7


@pytest.mark.parametrize("name", [VIT, CNN, HVIT, "test_byobnet", "careless"])
def test_an_unknown_option_is_refused_by_name(name):
    message = refused(name, no_option_of_any=1)
    assert f"'{name}' has no option 'no_option_of_any' (model.backbone_args.no_option_of_any)" in message


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [(VIT, "drop_path", "drop_path_rate"), (HVIT, "drop_pathrate", "drop_path_rate"), ("careless", "widht", "width")],
)
def test_an_option_is_suggested(name, wrong, right):
    assert f"Did you mean '{right}'?" in refused(name, **{wrong: 0})


def test_an_option_of_other_networks_is_refused():
    assert "'vgg11' has no option 'drop_path_rate'" in refused("vgg11", drop_path_rate=0.1)


def test_the_wrong_one_of_two_options_is_named():
    assert "has no option 'drop_pathrate'" in refused(HVIT, drop_rate=0.1, drop_pathrate=0.1)
    assert "has no option 'widht'" in refused("careless", width=3, widht=3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("num_classes", 3), ("img_size", 64), ("in_chans", 4), ("pretrained", True), ("checkpoint_path", "w.pth")),
        *(
            ("features_only", True),
            ("pretrained_cfg", {}),
            ("model_name", "x"),
            ("cache_dir", "x"),
            ("scriptable", True),
        ),
    ],
)
@pytest.mark.parametrize("name", [VIT, CNN])
def test_what_other_settings_decide_is_refused(name, key, value):
    assert f"model.backbone_args.{key} is decided by other settings" in refused(name, **{key: value})


def test_an_option_without_value_is_refused_because_timm_ignores_it():
    assert timm.create_model(VIT, anything=None) is not None
    assert "model.backbone_args.drop_path_rate is null" in refused(VIT, drop_path_rate=None)


@pytest.mark.parametrize("value", [1.5, 1, -0.1, "a little", [0.1], float("nan")])
def test_a_rate_is_a_part_of_one(value):
    assert "model.backbone_args.drop_path_rate is" in refused(VIT, drop_path_rate=value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (HVIT, {"num_heads": [3, 3, 3, 3]}),
        (HVIT, {"num_heads": [0, 1, 1, 1]}),
        (HVIT, {"depths": 3}),
        (HVIT, {"depths": [1, 1]}),
        (HVIT, {"patch_size": "a"}),
        (VIT, {"global_pool": "nonsense"}),
        (CNN, {"act_layer": "nonsense"}),
        (CNN, {"layers": 7}),
    ],
)
def test_an_option_of_an_impossible_value_is_shown(name, options):
    message = refused(name, **options)
    key, value = next(iter(options.items()))
    assert name in message and "model.backbone_args" in message and key in message
    assert str(value).strip("'[]") in message


@pytest.mark.parametrize(
    ("size", "fitting"), [(224, "128 or 256"), (64, "128 or 256"), (0, "128 or 256"), (520, "512 or 640")]
)
def test_sizes_that_fit_are_told(size, fitting):
    with pytest.raises(ConfigError) as caught:
        create_network("hvit_small", size, pretrained=None, args={})
    assert str(caught.value) == (
        f"'hvit_small' takes tiles whose side is a multiple of 128 px, not {size} px: "
        f"set data.tile_size (data.image_size) to {fitting}."
    )


def test_other_patches_have_other_fitting_sizes():
    assert create_network(HVIT, 224, pretrained=None, args={"patch_size": 7}).pos_embed.shape[1:3] == (32, 32)
    assert "multiple of 64 px" in refused(HVIT, 224, patch_size=8)


def test_our_own_networks_are_known():
    assert is_known("hvit_small") and has_fixed_size("hvit_small")
    assert is_known(CNN) and not has_fixed_size(CNN)
    assert not is_known("hvit_smal") and not has_fixed_size("hvit_smal")
