"""Reading a folder of images as a model's inputs, with sub-folders as classes."""

from pathlib import Path

import numpy as np

from tfsqueeze.core.data import Examples, InputSpec

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_images(folder, specs: list[InputSpec], *, limit: int | None = None, seed: int = 0) -> Examples:
    """Reads the images of a folder, resized to the model's input, as values from 0 to 255.

    Args:
        folder: has images, or one sub-folder of images per class. Classes are numbered in the order of
            the sub-folders' names, as `keras.utils.image_dataset_from_directory` does.
        specs: the model's inputs: one, of shape (n, height, width, channels) or, for models with channels
            first, (n, channels, height, width), with 1, 3 or 4 channels.
        limit: the most images to take, drawn at random over all classes.
        seed: of the random draw.

    Returns:
        `Examples` with float32 images; targets are class numbers, None without sub-folders.

    Raises:
        ValueError: if there are no images, one cannot be read, or the model's input is no image.
    """
    folder = Path(folder)
    spec, height, width, channels, is_channels_first = _image_input(specs, folder)
    labelled = _labelled_files(folder)
    if not labelled:
        raise ValueError(f"Found no images ({', '.join(IMAGE_ENDINGS)}) in the folder {str(folder)!r}.")
    if limit is not None and len(labelled) > limit:
        chosen = np.random.default_rng(seed).choice(len(labelled), limit, replace=False)
        labelled = [labelled[index] for index in np.sort(chosen)]
    images = [_read_image(path, height, width, channels) for path, _ in labelled]
    if len({image.shape for image in images}) > 1:
        raise ValueError(
            f"The model takes images of any size, but those in {str(folder)!r} differ in size: "
            f"{sorted({image.shape[:2] for image in images})[:4]}. Resize them to one size."
        )
    batch = np.stack(images)
    labels = [label for _, label in labelled]
    targets = None if None in labels else np.array(labels)
    return Examples({spec.name: batch.transpose(0, 3, 1, 2) if is_channels_first else batch}, targets)


def _labelled_files(folder: Path) -> list[tuple[Path, int | None]]:
    """Images in a stable order with their class, or with None where images lie beside the sub-folders."""
    loose = [(path, None) for path in sorted(folder.iterdir()) if _is_image(path)]
    classes = [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and not sub.name.startswith(".")]
    nested = [
        (path, label)
        for label, sub in enumerate(classes)
        for path in sorted(sub.rglob("*"))
        if _is_image(path)
    ]
    return loose + nested


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def _image_input(specs, folder):
    spec = specs[0]
    if len(specs) == 1 and len(spec.shape) == 4:
        _, *shape = spec.shape
        if shape[2] in MODES:
            return spec, shape[0], shape[1], shape[2], False
        if shape[0] in MODES:
            return spec, shape[1], shape[2], shape[0], True
    raise ValueError(
        f"A folder of images ({str(folder)!r}) needs a model with one input of shape (n, height, width, "
        f"channels) with 1, 3 or 4 channels. Received inputs: {[(s.name, s.shape) for s in specs]}. "
        "Pass an .npz file instead."
    )


def _read_image(path: Path, height: int | None, width: int | None, channels: int) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert(MODES[channels])
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"Cannot read the image {str(path)!r}: {error}.") from error
    size = (width or image.width, height or image.height)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32).reshape(size[1], size[0], channels)
