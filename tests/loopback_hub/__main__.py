"""Serves a Hub by hand: `python -m tests.loopback_hub --port 8765 --push FOLDER=user/name`.

Prints the environment that points the client libraries at it, and one token for each user; Ctrl-C ends it.
"""

import argparse
import threading
from collections.abc import Sequence

from .hub import LoopbackHub


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.loopback_hub", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8765, help="0 picks a free one")
    parser.add_argument("--user", action="append", default=[], help="a user to add; those of --push are there already")
    help_push = "a folder to serve; datasets/user/name makes it a dataset, spaces/user/name a Space"
    parser.add_argument("--push", action="append", default=[], metavar="FOLDER=user/name", help=help_push)
    asked = parser.parse_args(argv)

    with LoopbackHub(asked.port) as hub:
        users = set(asked.user)
        for folder, _, target in (push.rpartition("=") for push in asked.push):
            kind, repo_id = target.split("/", 1) if target.count("/") == 2 else ("models", target)
            sha = hub.add_folder(repo_id, folder, repo_type=kind.removesuffix("s"))
            users.add(repo_id.partition("/")[0])
            print(f"{hub.endpoint}/{target} at {sha[:7]}")
        for user in sorted(users or {"user"}):
            hub.add_user(user, token=f"hf_{user}")
            print(f"token of {user}: hf_{user}")
        print(f"HF_ENDPOINT={hub.endpoint} HF_HUB_DISABLE_XET=1 DISABLE_SAFETENSORS_CONVERSION=1", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
