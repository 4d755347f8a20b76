"""Archives of a dataset on the Hub, checked before the datasets library unpacks them."""

import zipfile
from collections.abc import Sequence
from functools import partial

from xaihub import hub
from xaihub.datasets.parquet import open_rows
from xaihub.errors import DatasetError

__all__ = ["check_archives"]

_MAX_UNPACKED = 4 * 2**30
_MAX_MEMBERS = 500_000
_CHECKED = 20  # archives of a large dataset, of which only the beginning is read


def check_archives(repo: hub.Repo, files: Sequence[str], token: hub.Token, *, fetched: bool) -> None:
    """Raise if an archive would unfold to more than it may: each says how large its members are.

    Args:
        fetched: whether whole files may be fetched for it; else only the parts that say it.

    Raises:
        DatasetError: one would, or is no archive of its kind.
        HubError: one did not arrive.
    """
    archives = [path for path in files if path.lower().endswith((".zip", ".tar"))]
    for path in archives if fetched else archives[:_CHECKED]:
        with hub.open_remote(repo, path, token=token) as stream:
            if path.lower().endswith(".tar"):
                # a compressed one says nowhere how large it is inside
                if stream.read(262)[257:] != b"ustar":
                    raise DatasetError(
                        f"{path[:120]} of {repo.repo_id} is no plain tar file, so how much it holds cannot be known."
                        " Use a dataset whose tar files are not compressed."
                    )
                continue
            try:
                members = zipfile.ZipFile(stream).infolist()
            except (zipfile.BadZipFile, ValueError, OSError) as error:
                raise DatasetError(
                    f"{path[:120]} of {repo.repo_id} is no zip file that can be read ({error})."
                ) from error
        size = sum(member.file_size for member in members)
        if size > _MAX_UNPACKED or len(members) > _MAX_MEMBERS:
            raise DatasetError(
                f"{path[:120]} of {repo.repo_id} would unpack to {size / 2**20:,.0f} MB in {len(members):,} files; at"
                f" most {_MAX_UNPACKED / 2**20:,.0f} MB and {_MAX_MEMBERS:,} files are unpacked. Use a smaller dataset."
            )
    for path in files:
        if path.endswith(".parquet"):  # a table of the images' labels, which the library reads whole
            open_rows(repo.repo_id, [partial(str, hub.fetch(repo, [path], token=token) / path)]).check()
