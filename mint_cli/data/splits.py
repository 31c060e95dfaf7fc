"""What a data set plug-in returns."""
import hashlib
def checked(splits, name): return splits
def digest(splits):
    h = hashlib.sha256()
    for one in (splits.train, splits.validation, splits.test):
        h.update(one.pixels.cpu().contiguous().numpy().tobytes()); h.update(one.labels.cpu().numpy().tobytes())
    return h.hexdigest()
