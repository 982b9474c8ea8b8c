"""TFDS in, arrays out: builders, splits, the device-resident feed, the streamed one, augmentation."""
