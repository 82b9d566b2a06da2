"""Neural models: pixels in, embeddings out. Imports nothing of app/ or storage/."""
