"""Words in the space of the images, without a network that was trained on images and texts."""
