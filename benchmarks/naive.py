"""A naive service to compare with.

It decodes every image in full, runs PyTorch eagerly in float32, embeds one image per call, and
handles one request at a time.
"""

from __future__ import annotations

import io
import sqlite3
import sys
import uuid
from pathlib import Path

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from numpy.typing import NDArray
from PIL import Image

from models.engines import TorchEmbedder
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from storage.cores import available_cores


class NaiveEmbedder:
    """Embeds whole files with the shipped weights."""

    def __init__(self) -> None:
        self._engine = TorchEmbedder(WeightsFile.load(DEFAULT_WEIGHTS), device="cpu")
        torch.set_num_threads(available_cores())

    def embed(self, content: bytes) -> NDArray[np.float32]:
        """Decode an image file and embed it: ``(512,)`` float32."""
        image = Image.open(io.BytesIO(content)).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side)).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
        return self._engine.embed(np.asarray(square)[None])[0]


def create_app(directory: Path) -> FastAPI:
    """Create an app that stores uploads and their embeddings in ``directory``."""
    app = FastAPI()
    embedder = NaiveEmbedder()
    database = sqlite3.connect(directory / "naive.db", check_same_thread=False)
    database.execute("CREATE TABLE IF NOT EXISTS images (id TEXT, vector BLOB)")

    @app.get("/readyz")
    async def ready() -> str:
        return "ok"

    @app.post("/masters")
    async def upload(file: UploadFile) -> dict[str, str]:
        content = await file.read()
        name = str(uuid.uuid4())
        (directory / name).write_bytes(content)
        vector = embedder.embed(content).tobytes()
        database.execute("INSERT INTO images VALUES (?, ?)", (name, vector))
        database.commit()
        return {"id": name}

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning"
    )
