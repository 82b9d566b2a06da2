"""Embeds words in the space of the images, without a network trained on images and texts."""
