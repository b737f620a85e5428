from __future__ import annotations

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from ssense.model.encoders.convolution import ConvolutionEncoder


@pytest.mark.parametrize("shape", [(16, 26), (40, 154), (3, 5), (1, 1)])
def test_its_head_reads_means_of_places(shape):
    torch.manual_seed(0)
    encoder = ConvolutionEncoder("float32", 3, 4, 7).eval()
    x = torch.rand(2, 3, 1, *shape)
    maps = encoder.stages(encoder.mix(x.squeeze(2)))
    expected = encoder.head(adaptive_avg_pool2d(maps, (2, 4)).flatten(1))
    torch.testing.assert_close(encoder(x), expected)


@pytest.mark.parametrize("shape", [(4, 4), (4, 5), (5, 1), (1, 1)])
def test_it_says_whether_one_sample_can_be_normalised(shape):
    encoder = ConvolutionEncoder("float32", 2, 4, 7).train()
    x = torch.rand(1, 2, 1, *shape)
    if encoder.trains_on_one(x):
        assert encoder(x).isfinite().all()
    else:
        with pytest.raises(ValueError, match="more than 1 value"):
            encoder(x)
