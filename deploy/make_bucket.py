"""Make a bucket where there is none: `python make_bucket.py NAME`, by the AWS_… variables. Part of compose.yaml."""

import sys
import time

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE_S = 60


def main(name: str) -> None:
    """Until the server answers, for a minute at most."""
    client = botocore.session.get_session().create_client("s3")
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            client.head_bucket(Bucket=name)
            return
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                failure: Exception = error
            else:
                client.create_bucket(Bucket=name)
                return
        except BotoCoreError as error:
            failure = error
        if time.monotonic() > until:
            raise SystemExit(f"The bucket {name!r} cannot be made: {failure}")
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
