"""Fine-tuning: metric learning on labelled photographs. Needs the extra ``train``."""
