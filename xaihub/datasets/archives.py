"""Zip files of images, read as folders: none unfolds unseen."""

import io
import zipfile
from typing import BinaryIO

from xaihub.errors import DatasetError, PictureError
from xaihub.images import MAX_BYTES

__all__ = ["ZippedFolder"]

_MAX_DIRECTORY = 32 * 2**20  # bytes of a zip file's list of its members: some 300,000


class ZippedFolder:
    """The members of a zip file, of which each is unpacked when it is asked for."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        """
        Raises:
            DatasetError: it is no zip file, or its list of members is too long.
        """
        try:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - 65_557))  # the end's record, and the longest comment behind it
            end = stream.read()
            record = end[end.rindex(b"PK\5\6") :]
            short = int.from_bytes(record[12:16], "little") <= _MAX_DIRECTORY
            self._archive = zipfile.ZipFile(stream if short else io.BytesIO())
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise DatasetError(
                f"{name[:120]} is no zip file that can be read, or its list of members is longer than"
                f" {_MAX_DIRECTORY / 2**20:.0f} MB ({str(error)[:120]})."
            ) from error
        self.sizes = {member.filename: member.file_size for member in self._archive.infolist() if not member.is_dir()}

    def read(self, path: str, limit: int = MAX_BYTES) -> bytes:
        """
        Raises:
            PictureError: it would unpack to more bytes than `limit`, or is broken or encrypted.
        """
        if self.sizes[path] > limit:
            raise PictureError(f"{path[-80:]!r} would unpack to {self.sizes[path] / 2**20:,.0f} MB.")
        try:
            return self._archive.read(path)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
            raise PictureError(f"{path[-80:]!r} cannot be unpacked ({str(error)[:120]}).") from error
