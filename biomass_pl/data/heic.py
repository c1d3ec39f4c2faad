"""Opens pictures; those of HEIC, which some phones take, through pillow-heif where it is installed."""

import importlib
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def open_picture(source: Path | BytesIO) -> Image.Image:
    """Opens a picture of any kind, without decoding it.

    Args:
        source: Its file or bytes.

    Raises:
        UnidentifiedImageError: It is no picture.
        ValueError: It is one of HEIC, which cannot be opened here.
    """
    try:
        return Image.open(source)
    except UnidentifiedImageError as error:
        if not _is_heic(source):
            raise
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ModuleNotFoundError:
            msg = (
                "it is a HEIC photo, for which pillow-heif is not installed (pip install 'biomass-pl[heic]', or save "
                "it as JPEG)"
            )
            raise ValueError(msg) from error
    return Image.open(source)


def _is_heic(source: Path | BytesIO) -> bool:
    """Whether the content is HEIC, whatever the file is called."""
    if isinstance(source, BytesIO):
        start = source.getvalue()[:12]
    else:
        with source.open("rb") as file:
            start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in _BRANDS
