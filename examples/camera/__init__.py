"""A camera before a PCM chip: frames in, labels on the picture, and no frame lost to a device that goes away."""
