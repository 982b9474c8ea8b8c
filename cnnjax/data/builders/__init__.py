"""The TFDS builders that ship with cnnjax: small real data sets that come with packages and need no network."""
