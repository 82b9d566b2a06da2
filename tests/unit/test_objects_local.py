"""What is specific to the object store on local files."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from storage.objects_local import LocalObjectStore


def test_a_directory_that_vanishes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = LocalObjectStore(tmp_path)
    mkdir, raced = os.mkdir, []

    def another_made_and_removed_it(path: Any, *arguments: Any, **options: Any) -> None:
        if path not in raced:
            raced.append(path)
            raise FileExistsError(path)
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", another_made_and_removed_it)
    objects.put("masters/shop-1/ab/cat.jpg", io.BytesIO(b"x"), 1, "image/jpeg", "cat.jpg")
    assert len(raced) == 3
    assert objects.stat("masters/shop-1/ab/cat.jpg").size == 1
