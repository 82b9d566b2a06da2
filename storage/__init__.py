"""The three stores: metadata (the source of truth), objects (bytes), vectors. Imports nothing of app/ or models/."""
