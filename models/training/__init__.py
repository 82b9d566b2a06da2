"""Fine-tuning: metric learning on labelled images. Needs the extra ``train``."""
