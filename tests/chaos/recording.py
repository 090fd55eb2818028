"""Every call that is made to an AWS or a Kubernetes API, as whom, and what it needs.

While recording, the documents of ``ci/`` are enforced: what they do not allow is denied, as the
APIs would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from botocore.session import Session
from kubernetes.client.exceptions import ApiException
from kubernetes.client.rest import RESTClientObject

from .policies import Asked, Request, Right, allowed

#: Actions that AWS knows no resources of (Service Authorization Reference); DescribeAlarms knows
#: some, but shows composite alarms only to whom it is allowed on all.
WITHOUT_RESOURCES = frozenset({
    "cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData", "cloudwatch:ListMetrics",
    "ec2:DescribeInstances", "ec2:DescribeNetworkAcls", "ec2:DescribeSubnets",
    "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth",
})  # fmt: skip
#: Anybody may ask who they are, whatever is denied.
NEEDS_NOTHING = frozenset({"sts:GetCallerIdentity"})
_PREFIXES = {"elbv2": "elasticloadbalancing"}
RUNNER = "runner"


class Aws:
    """Calls by the name of the role that made them; ``documents`` by the same names.

    ``trust`` is the trust policy of each role. ``ec2(region)`` is a client of somebody who is not
    recorded, to look up what a call is about.
    """

    def __init__(
        self,
        documents: Mapping[str, Mapping[str, Any]],
        trust: Mapping[str, Any],
        account: str,
        ec2: Callable[[str], Any],
    ) -> None:
        self.documents, self.trust, self.account, self._ec2 = documents, trust, account, ec2
        self.used: dict[str, list[Asked]] = {name: [] for name in documents}
        self.trusted: list[Asked] = []
        self.denied: list[str] = []
        #: access key → name of the role; what is not here is the runner's own
        self._keys: dict[str, str] = {}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        create = Session.create_client
        recorder = self

        def recorded(session: Any, *arguments: Any, **options: Any) -> Any:
            client = create(session, *arguments, **options)
            events = client.meta.events
            events.register("provide-client-params", _keep_params)
            events.register("before-call", recorder._before)
            events.register("after-call.sts.AssumeRole", recorder._assumed)
            return client

        patch.setattr(Session, "create_client", recorded)

    def _before(self, model: Any, request_signer: Any, context: dict[str, Any], **_: Any) -> None:
        key = request_signer._credentials.get_frozen_credentials().access_key
        role = self._keys.get(key, RUNNER)
        service = model.service_model.service_name
        action = f"{_PREFIXES.get(service, service)}:{model.name}"
        if action in NEEDS_NOTHING:
            return
        region = request_signer.region_name
        for asked in self._needs(action, context["harness_params"], region):
            self.used[role].append(asked)
            self._require(role, self.documents[role], asked)
            if action == "sts:AssumeRole":
                self.trusted.append(asked)
                self._require(f"trust of {asked.resource}", self.trust, asked)

    def _require(self, who: str, document: Mapping[str, Any], asked: Asked) -> None:
        if not allowed(document, asked):
            self.denied.append(f"{who}: {asked}")
            error = {"Error": {"Code": "AccessDenied", "Message": f"{who} may not {asked}"}}
            raise ClientError(error, asked.action)

    def _assumed(self, parsed: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        name = context["harness_params"]["RoleArn"].rpartition("/harness-")[2]
        self._keys[parsed["Credentials"]["AccessKeyId"]] = name

    def _needs(self, action: str, given: Mapping[str, Any], region: str) -> Iterator[Asked]:
        here = {"aws:RequestedRegion": region}
        service = action.partition(":")[0]
        arn = f"arn:aws:{service}:{region}:{self.account}"
        if action in WITHOUT_RESOURCES:
            yield Asked(action, "*", here)
            return
        match action:
            case "ec2:CreateNetworkAcl":
                yield Asked(action, f"{arn}:vpc/{given['VpcId']}", here)
                specified = given.get("TagSpecifications", ())
                tags = {
                    f"aws:RequestTag/{t['Key']}": t["Value"] for s in specified for t in s["Tags"]
                }
                yield Asked(action, f"{arn}:network-acl/acl-new", here | tags)
                if tags:
                    made = {"ec2:CreateAction": "CreateNetworkAcl"}
                    yield Asked("ec2:CreateTags", f"{arn}:network-acl/acl-new", here | tags | made)
            case "ec2:ReplaceNetworkAclAssociation":
                subnet = self._subnet(given["AssociationId"], region)
                yield Asked(action, f"{arn}:subnet/{subnet['SubnetId']}", here | _of(subnet, arn))
                yield self._on_acl(action, given["NetworkAclId"], region, arn)
            case "ec2:DeleteNetworkAcl":
                yield self._on_acl(action, given["NetworkAclId"], region, arn)
            case "fis:GetSafetyLever":
                yield Asked(action, f"{arn}:safety-lever/{given['id']}", here)
            case "rds:DescribeDBInstances":
                yield Asked(action, f"{arn}:db:{given.get('DBInstanceIdentifier', '*')}", here)
            case "route53:GetHealthCheck" | "route53:GetHealthCheckStatus":
                yield Asked(action, f"arn:aws:route53:::healthcheck/{given['HealthCheckId']}")
            case "route53:ListResourceRecordSets":
                yield Asked(action, f"arn:aws:route53:::hostedzone/{given['HostedZoneId']}")
            case "s3:GetObject" | "s3:PutObject":
                yield Asked(action, f"arn:aws:s3:::{given['Bucket']}/{given['Key']}", here)
            case "ssm:GetParameter":
                yield Asked(action, f"{arn}:parameter/{given['Name'].lstrip('/')}", here)
            case "sts:AssumeRole":
                said = given.get("ExternalId")
                context = {} if said is None else {"sts:ExternalId": said}
                yield Asked(action, given["RoleArn"], here | context)
            case _:
                raise NotImplementedError(f"say which resources {action} needs")

    def _on_acl(self, action: str, acl_id: str, region: str, arn: str) -> Asked:
        (acl,) = self._ec2(region).describe_network_acls(NetworkAclIds=[acl_id])["NetworkAcls"]
        context = {"aws:RequestedRegion": region} | _of(acl, arn)
        return Asked(action, f"{arn}:network-acl/{acl_id}", context)

    def _subnet(self, association: str, region: str) -> Mapping[str, Any]:
        ec2 = self._ec2(region)
        filters = [{"Name": "association.association-id", "Values": [association]}]
        (subnet,) = [
            found["SubnetId"]
            for acl in ec2.describe_network_acls(Filters=filters)["NetworkAcls"]
            for found in acl["Associations"]
            if found["NetworkAclAssociationId"] == association
        ]
        found: Mapping[str, Any] = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]
        return found


def _keep_params(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
    context["harness_params"] = params


def _of(resource: Mapping[str, Any], arn: str) -> dict[str, str]:
    """The condition keys of something in EC2."""
    tags = {f"aws:ResourceTag/{t['Key']}": t["Value"] for t in resource.get("Tags", ())}
    return {**tags, "ec2:Vpc": f"{arn}:vpc/{resource['VpcId']}"}


class Kubernetes:
    """Requests of every client in this process; ``rights`` are enforced."""

    def __init__(self, rights: set[Right], runners: str) -> None:
        """``runners``: the group of the kubeconfig's user."""
        self._rights, self._runners = rights, runners
        self.used: list[Request] = []
        self.denied: list[Request] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        send = RESTClientObject.request
        recorder = self

        def recorded(rest: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
            given = dict(options.get("query_params") or ())
            recorder._check(method, url, given, options.get("headers") or {})
            return send(rest, method, url, *arguments, **options)

        patch.setattr(RESTClientObject, "request", recorded)

    def _check(
        self, method: str, url: str, query: Mapping[str, Any], headers: Mapping[str, str]
    ) -> None:
        user = headers.get("Impersonate-User")
        if user is not None:
            _, _, namespace, name = user.split(":")
            self._require(
                Request(self._runners, "impersonate", "", "serviceaccounts", namespace, name)
            )
            user = f"{namespace}/{name}"
        self._require(request_of(user or self._runners, method, url, query))

    def _require(self, request: Request) -> None:
        self.used.append(request)
        if not any(right.allows(request) for right in self._rights):
            self.denied.append(request)
            raise ApiException(status=403, reason=f"forbidden: {request}")


def request_of(user: str, method: str, url: str, query: Mapping[str, Any]) -> Request:
    """A request as the API server's authorizer sees it."""
    parts = urlsplit(url).path.strip("/").split("/")
    group = "" if parts[0] == "api" else parts[1]
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else None
    resource = "/".join([rest[0], *rest[2:]])
    verbs = {
        "GET": "get" if name else "list",
        "POST": "create",
        "PUT": "update",
        "PATCH": "patch",
        "DELETE": "delete" if name else "deletecollection",
    }
    verb = verbs[method]
    if verb == "list" and str(query.get("watch")).lower() == "true":
        verb = "watch"
    return Request(user, verb, group, resource, namespace, name)
