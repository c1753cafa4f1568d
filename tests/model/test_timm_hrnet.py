"""timm's HRNet as the oracle: names of the published weights, and the features they give."""

import pytest
import torch

from hintpose_lite.model.hrnet import HRNet
from hintpose_lite.weights.published import translate
from hintpose_lite.weights.weights import load_weights

timm = pytest.importorskip("timm")


def test_classifier_fills_1752_of_1754_entries():
    with torch.device("meta"):
        stored = translate(timm.create_model("hrnet_w32").state_dict())
        wanted = HRNet().state_dict()
    assert stored.kind == "backbone"
    assert len(stored.state) == 1752 and len(wanted) == 1754
    assert set(wanted) - set(stored.state) == {"final_layer.weight", "final_layer.bias"}
    assert all(value.shape == wanted[name].shape for name, value in stored.state.items())


def stride4_features(net, images):
    x = net.act1(net.bn1(net.conv1(images)))
    x = net.act2(net.bn2(net.conv2(x)))
    return net.stages(x)[0]


@pytest.mark.parametrize("name, settings", [
    ("hrnet_w32", {}), ("hrnet_w18_small_v2", {"width": 18, "modules": (1, 3, 2), "blocks": 2})])
def test_same_stride4_features(name, settings):
    torch.manual_seed(0)
    oracle = timm.create_model(name)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        oracle.train()(images)  # running statistics that are not all alike
        net = HRNet(**settings)
        missing = load_weights(net, oracle.state_dict())
        assert missing == ("final_layer.weight", "final_layer.bias")
        expected = stride4_features(oracle.eval(), images)
        features = net.eval().head(net.stem_features(images))
    assert features.shape == expected.shape == (2, net.architecture["width"], 16, 24)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(features, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())
