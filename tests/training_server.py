"""What the server of forked processes imports, with everything that is imported only when it is first used."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import training_child

with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    root = Path(folder)
    with contextlib.redirect_stderr(io.StringIO()):
        data, network = training_child.class_folders(root / "data"), training_child.backbone(root / "network")
        training_child.train(data, network, root / "made", "--epochs", "0", cache=root / "cache")
    os.environ.pop("XAIHUB_CACHE")
