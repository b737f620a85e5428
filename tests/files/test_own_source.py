from __future__ import annotations

import pytest

from ssense.engine.core.checks import check_encoder
from ssense.errors import UserError
from ssense.files.own_source import own_source
from ssense.model.encoders.own import OwnSpec


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("my.py:Mine", ("my.py", "Mine")),
        ("a:b/my.py:Mine", ("a:b/my.py", "Mine")),
        ("my.py", None),
        ("my.py:", None),
        ("my.py:1st", None),
        ("", None),
    ],
)
def test_a_class_in_a_file_is_read_alike_by_the_command_line_and_the_specification(text, found):
    assert own_source(text) == found
    nothing, no_file = "neither an encoder nor a class", "no such file"
    with pytest.raises(UserError, match=no_file if found else nothing):
        check_encoder("--encoder", text)
    with pytest.raises(UserError, match=no_file if found else "names no class"):
        OwnSpec.of(text)
