"""Neural networks: they turn pixels into embeddings. Imports nothing from app/ or storage/."""
