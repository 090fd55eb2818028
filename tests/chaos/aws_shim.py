"""As much of the ``aws`` command as lines for a shell use.

Operations and parameters are botocore's own: what AWS's command would not know is refused.
"""

from __future__ import annotations

import argparse
import sys

import boto3
import jmespath
from botocore import xform_name


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--region", "--endpoint-url", "--output", "--query"):
        parser.add_argument(name)
    known, rest = parser.parse_known_args(words)
    service, operation, *pairs = rest
    client = boto3.client(service, region_name=known.region, endpoint_url=known.endpoint_url)
    method = operation.replace("-", "_")
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    members = {f"--{xform_name(m, '-')}": m for m in shape.input_shape.members}
    arguments = {}
    for flag, value in zip(pairs[::2], pairs[1::2], strict=True):
        arguments[members[flag]] = _filters(value) if flag == "--filters" else value
    answer = getattr(client, method)(**arguments)
    if known.output == "text" and (found := jmespath.search(known.query, answer)):
        sys.stdout.write("\t".join(found) + "\n")


def _filters(text: str) -> list[dict[str, object]]:
    name, _, values = text.partition(",Values=")
    return [{"Name": name.removeprefix("Name="), "Values": values.split(",")}]


if __name__ == "__main__":
    main(sys.argv[1:])
