"""The API server: paths and verbs over HTTP, answered from the registry."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

from aiohttp import web
from ruamel.yaml import YAML, YAMLError

from harness.lab.kube import discovery, kinds, patch, tables
from harness.lab.kube.apierror import ApiError, bad_request, gone, not_found
from harness.lab.kube.disruption import evict
from harness.lab.kube.kinds import Kind
from harness.lab.kube.kubelet import Kubelet, PodWorker
from harness.lab.kube.objects import (
    Obj,
    at,
    clone,
    is_true,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from harness.lab.kube.podstreams import Exec, stream_logs
from harness.lab.kube.registry import DeleteOptions, Registry
from harness.lab.kube.selectors import field_selector, label_selector, selector_text
from harness.lab.kube.watch import Watch, WatchOptions

_WATCH_TIMEOUT_S = 3600.0
_BODY_MAX_BYTES = 8 * 1024 * 1024
_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


@dataclass(frozen=True)
class Target:
    """What a path names: a kind, perhaps in a namespace, perhaps one object or a part of it."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Api:
    """Serves one cluster. ``app()`` is the aiohttp application."""

    def __init__(self, registry: Registry, kubelet: Kubelet, address: str) -> None:
        self._registry = registry
        self._kubelet = kubelet
        self._address = address
        self._streams: set[asyncio.Task[Any]] = set()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_MAX_BYTES, middlewares=[_errors])
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    def end_streams(self) -> None:
        """End all watches, logs and execs, so that the server can close at once."""
        for task in tuple(self._streams):
            task.cancel()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        parts = [p for p in request.path.split("/") if p]
        fixed = self._fixed(request, parts)
        if fixed is not None:
            return fixed
        target = self._target(parts)
        if target.subresource:
            return await self._subresource(request, target)
        if target.name:
            return await self._one(request, target)
        return await self._many(request, target)

    # -- what is not an object -------------------------------------------------------------

    def _fixed(self, request: web.Request, parts: list[str]) -> web.Response | None:
        table = self._registry.kinds
        aggregated = "as=APIGroupDiscoveryList" in request.headers.get("Accept", "")
        match parts:
            case [] | ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return web.json_response(discovery.version())
            case ["api" | "apis" as root] if aggregated:
                document = discovery.aggregated(table, core=root == "api")
                headers = {"Content-Type": discovery.AGGREGATED}
                return web.Response(body=json.dumps(document).encode(), headers=headers)
            case ["api"]:
                return web.json_response(discovery.api_versions(self._address))
            case ["apis"]:
                return web.json_response(discovery.group_list(table))
            case ["apis", name]:
                versions = dict(table.groups()).get(name)
                if versions is None:
                    raise _no_such_path()
                return web.json_response(discovery.group(name, versions))
            case ["api", version]:
                return self._resources("", version)
            case ["apis", name, version]:
                return self._resources(name, version)
            case ["openapi", "v2"]:
                # An empty schema in the form kubectl asks for: nothing to validate against.
                return web.Response(body=b"", content_type=_PROTOBUF)
            case ["openapi", "v3"]:
                return web.json_response({"paths": {}})
        return None

    def _resources(self, group: str, version: str) -> web.Response:
        found = discovery.resource_list(self._registry.kinds, group, version)
        if found is None:
            raise _no_such_path()
        return web.json_response(found)

    def _target(self, parts: list[str]) -> Target:
        match parts:
            case ["api", version, *rest]:
                group = ""
            case ["apis", group, version, *rest]:
                pass
            case _:
                raise _no_such_path()
        namespace = ""
        if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self._registry.kinds.by_path(group, version, rest[0])
        if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
            raise _no_such_path()
        return Target(kind, namespace, *rest[1:])

    # -- collections ---------------------------------------------------------------------------

    async def _many(self, request: web.Request, target: Target) -> web.StreamResponse:
        if request.method == "GET":
            if is_true(request.query.get("watch")):
                return await self._stream(self._watch(request, target))
            return self._list(request, target)
        if request.method == "POST":
            return await self._create(request, target)
        if request.method == "DELETE":
            return await self._delete_many(request, target)
        raise _method_not_allowed()

    def _matcher(self, request: web.Request, kind: Kind) -> Callable[[Obj], bool]:
        by_label = label_selector(request.query.get("labelSelector", ""))
        by_field = field_selector(request.query.get("fieldSelector", ""), kind.selectable)
        return lambda obj: by_label(meta(obj).get("labels") or {}) and by_field(obj)

    def _selected(self, request: web.Request, target: Target) -> list[Obj]:
        matches = self._matcher(request, target.kind)
        objects = self._registry.store.list(target.kind.storage, target.namespace or None)
        return [o for o in (_view(target.kind, obj) for obj in objects) if matches(o)]

    def _list(self, request: web.Request, target: Target) -> web.Response:
        objects = self._selected(request, target)
        version = str(self._registry.store.version)
        objects, list_meta = _page(request, objects, version)
        if as_table := _table_wanted(request):
            return self._table(request, target.kind, objects, list_meta, as_table)
        kind = target.kind
        body = {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": list_meta,
            "items": objects,
        }
        return web.json_response(body)

    def _table(
        self, request: web.Request, kind: Kind, objects: list[Obj], list_meta: Obj, include: str
    ) -> web.Response:
        now = self._registry.clock.wall_s()
        return web.json_response(tables.table(kind.columns, objects, list_meta, now, include))

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        include = _table_wanted(request)
        options = WatchOptions(
            kind=target.kind,
            namespace=target.namespace,
            version=query.get("resourceVersion", ""),
            matches=self._matcher(request, target.kind),
            initial_events=is_true(query.get("sendInitialEvents")),
            bookmarks=is_true(query.get("allowWatchBookmarks")),
            timeout_s=float(query.get("timeoutSeconds") or _WATCH_TIMEOUT_S),
        )
        watch = Watch(self._registry.store, options)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            async for type_, obj in watch.events():
                if include and type_ != "ERROR":
                    obj = self._event_table(target.kind, type_, obj, include)
                line = json.dumps({"type": type_, "object": obj}, separators=(",", ":"))
                await response.write(line.encode() + b"\n")
            await response.write_eof()
        finally:
            watch.close()
        return response

    def _event_table(self, kind: Kind, type_: str, obj: Obj, include: str) -> Obj:
        version = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        now = self._registry.clock.wall_s()
        if type_ != "BOOKMARK":
            return tables.table(kind.columns, [obj], version, now, include)
        empty = tables.table(kind.columns, [], version, now, include)
        # Clients look for the annotation of the bookmark in the row's object.
        empty["metadata"] = obj["metadata"]
        empty["rows"] = [{"cells": [""] * len(kind.columns), "object": obj}]
        return empty

    async def _create(self, request: web.Request, target: Target) -> web.Response:
        body = await self._body(request)
        self._check_type(target.kind, body)
        if target.kind.from_view:
            body = target.kind.from_view(body)
        namespace = target.namespace
        if target.kind.namespaced and not namespace:
            raise bad_request("an object of this kind must be created in a namespace")
        created = self._registry.create(target.kind, namespace, body, dry_run=_dry_run(request))
        return self._answer(request, target.kind, created, status=201)

    @staticmethod
    def _check_type(kind: Kind, body: Obj) -> None:
        sent = body.get("apiVersion", kind.api_version), body.get("kind", kind.kind)
        if sent != (kind.api_version, kind.kind):
            raise bad_request(
                f"the object provided is unrecognized: it is {sent[0]} {sent[1]}, "
                f"the path serves {kind.api_version} {kind.kind}"
            )

    async def _delete_many(self, request: web.Request, target: Target) -> web.Response:
        options = await self._delete_options(request)
        objects = self._selected(request, target)
        for obj in objects:
            self._registry.delete(target.kind, namespace_of(obj), name_of(obj), options)
        return web.json_response(_deleted(target.kind, target.kind.plural, ""))

    # -- single objects --------------------------------------------------------------------

    async def _one(self, request: web.Request, target: Target) -> web.StreamResponse:
        kind, namespace, name = target.kind, target.namespace, target.name
        if request.method == "GET":
            found = self._registry.get(kind, namespace, name)
            return self._answer(request, kind, found)
        if request.method == "PUT":
            return await self._replace(request, target)
        if request.method == "PATCH":
            return await self._patch(request, target)
        if request.method == "DELETE":
            options = await self._delete_options(request)
            before = self._registry.get(kind, namespace, name)
            left = self._registry.delete(kind, namespace, name, options)
            if left is None and kind is not kinds.POD:
                return web.json_response(_deleted(kind, name, uid_of(before)))
            return self._answer(request, kind, left or before)
        raise _method_not_allowed()

    async def _replace(self, request: web.Request, target: Target) -> web.Response:
        body = await self._body(request)
        self._check_type(target.kind, body)
        if target.kind.from_view:
            body = target.kind.from_view(body)
        updated = self._registry.update(
            target.kind,
            target.namespace,
            target.name,
            body,
            subresource=target.subresource,
            dry_run=_dry_run(request),
        )
        return self._answer(request, target.kind, updated)

    async def _patch(self, request: web.Request, target: Target) -> web.Response:
        kind = target.kind
        content_type = request.headers.get("Content-Type", "").split(";")[0].strip()
        change = await self._change(request, kind, content_type)
        dry_run = _dry_run(request)
        key = target.namespace, target.name
        exists = self._registry.store.get(kind.storage, *key) is not None
        if content_type.startswith("application/apply-patch") and not exists:
            body = change({})
            body.setdefault("metadata", {})["name"] = target.name
            created = self._registry.create(kind, target.namespace, body, dry_run=dry_run)
            return self._answer(request, kind, created, status=201)
        updated = self._registry.patch(
            kind, *key, change, subresource=target.subresource, dry_run=dry_run
        )
        return self._answer(request, kind, updated)

    async def _change(
        self, request: web.Request, kind: Kind, content_type: str
    ) -> Callable[[Obj], Obj]:
        """The patch in the body as a function on the object as the client sees it."""
        body = await self._body(request)
        if content_type == "application/json-patch+json":
            apply = patch.json_patch
        elif content_type == "application/merge-patch+json":
            apply = patch.merge
        elif content_type in ("application/apply-patch+yaml", "application/apply-patch+cbor"):
            self._check_type(kind, body)
            apply = patch.strategic if kind.strategic else patch.merge
        elif content_type == "application/strategic-merge-patch+json" and kind.strategic:
            apply = patch.strategic
        else:
            raise ApiError(
                415,
                "UnsupportedMediaType",
                f"the body of the request was in an unknown format: {content_type!r}; use "
                "application/json-patch+json, application/merge-patch+json, "
                "application/strategic-merge-patch+json (built-in kinds) or "
                "application/apply-patch+yaml",
            )
        to_view, from_view = kind.to_view, kind.from_view
        if to_view and from_view:
            return lambda obj: from_view(apply(to_view(obj), body))
        return lambda obj: apply(obj, body)

    def _answer(
        self, request: web.Request, kind: Kind, obj: Obj, status: int = 200
    ) -> web.Response:
        view = _view(kind, obj)
        if include := _table_wanted(request):
            version = {"resourceVersion": meta(obj).get("resourceVersion", "")}
            return self._table(request, kind, [view], version, include)
        return web.json_response(view, status=status)

    async def _body(self, request: web.Request) -> Any:
        text = await request.text()
        if not text.strip():
            return {}
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            content_type = request.headers.get("Content-Type", "")
            if "yaml" not in content_type:
                raise bad_request(f"the body is not valid JSON: {error}") from error
        try:
            return YAML(typ="safe").load(StringIO(text))
        except YAMLError as error:
            raise bad_request(f"the body is not valid YAML: {error}") from error

    async def _delete_options(self, request: web.Request) -> DeleteOptions:
        body = await self._body(request)
        query = request.query
        grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        propagation = body.get("propagationPolicy") or query.get("propagationPolicy")
        if not propagation and (body.get("orphanDependents") or query.get("orphanDependents")):
            propagation = "Orphan"
        conditions = body.get("preconditions") or {}
        return DeleteOptions(
            grace_s=None if grace is None else int(grace),
            propagation=propagation or "Background",
            uid=conditions.get("uid") or "",
            resource_version=conditions.get("resourceVersion") or "",
            dry_run=_dry_run(request) or bool(body.get("dryRun")),
        )

    # -- subresources ------------------------------------------------------------------------

    async def _subresource(self, request: web.Request, target: Target) -> web.StreamResponse:
        kind, part = target.kind, target.subresource
        if part == "status" and kind.has_status:
            return await self._one(request, target)
        if part == "scale" and kind.has_scale:
            return await self._scale(request, target)
        if kind is kinds.POD:
            if part == "eviction" and request.method == "POST":
                return await self._evict(request, target)
            if part == "log" and request.method == "GET":
                return await self._stream(stream_logs(request, self._worker(target)))
            if part == "exec":
                return await self._exec(request, target)
        raise not_found(f"{kind.plural}/{part}", kind.group, target.name)

    async def _stream(self, coroutine: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        """Run an answer that may take long, so that :meth:`end_streams` can end it."""
        task = asyncio.current_task()
        if task is None:
            return await coroutine
        self._streams.add(task)
        try:
            return await coroutine
        finally:
            self._streams.discard(task)

    def _worker(self, target: Target) -> PodWorker:
        pod = self._registry.get(kinds.POD, target.namespace, target.name)
        worker = self._kubelet.worker_of(target.namespace, target.name)
        if worker is None:
            state = tables.pod_state(pod)
            raise bad_request(f'pod "{target.name}" has no container running: {state}')
        node = at(pod, "spec.nodeName", "")
        if not self._kubelet.reachable(node).is_set():
            message = f"error dialing backend: node {node} is not ready"
            raise ApiError(504, "Timeout", message)
        return worker

    async def _exec(self, request: web.Request, target: Target) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise bad_request("exec is served over WebSocket only: use a newer client")
        return await self._stream(Exec(request, self._worker(target)).run())

    async def _evict(self, request: web.Request, target: Target) -> web.Response:
        body = await self._body(request)
        wanted = body.get("deleteOptions") or {}
        grace = wanted.get("gracePeriodSeconds")
        options = DeleteOptions(
            grace_s=None if grace is None else int(grace),
            dry_run=_dry_run(request) or bool(wanted.get("dryRun")),
        )
        evict(self._registry, target.namespace, target.name, options)
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return web.json_response({**status, "code": 201}, status=201)

    async def _scale(self, request: web.Request, target: Target) -> web.Response:
        kind, key = target.kind, (target.namespace, target.name)
        found = self._registry.get(kind, *key)
        if request.method == "GET":
            return web.json_response(_scale_of(found))
        if request.method == "PUT":
            wanted = await self._body(request)
        elif request.method == "PATCH":
            content_type = request.headers.get("Content-Type", "").split(";")[0].strip()
            change = await self._change(request, kinds.DEPLOYMENT, content_type)
            wanted = change(_scale_of(found))
        else:
            raise _method_not_allowed()
        body = clone(found)
        body["spec"]["replicas"] = at(wanted, "spec.replicas", 0)
        version = at(wanted, "metadata.resourceVersion")
        body["metadata"]["resourceVersion"] = version or meta(found)["resourceVersion"]
        updated = self._registry.update(kind, *key, body, dry_run=_dry_run(request))
        return web.json_response(_scale_of(updated))


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        # No Retry-After with 429: clients would then retry an eviction silently for long.
        return web.json_response(error.status(), status=error.code)


def _no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def _method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message)


def _view(kind: Kind, obj: Obj) -> Obj:
    return kind.to_view(obj) if kind.to_view else obj


def _dry_run(request: web.Request) -> bool:
    return request.query.get("dryRun") == "All"


def _table_wanted(request: web.Request) -> str:
    """What the rows of the wanted table include; empty if no table is wanted."""
    accept = request.headers.get("Accept", "").replace(" ", "")
    if "as=Table" not in accept.split(",")[0]:
        return ""
    return request.query.get("includeObject", "Metadata")


def _page(request: web.Request, objects: list[Obj], version: str) -> tuple[list[Obj], Obj]:
    """The asked page of a list, and the list's metadata.

    A continue token holds the version and the last key seen; a list goes on from the
    present objects behind that key. Raises ApiError 410 for a token that is not ours.
    """
    query = request.query
    if token := query.get("continue"):
        try:
            version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        except ValueError as error:
            raise gone("The provided continue parameter is not valid: list again") from error
        objects = [o for o in objects if (namespace_of(o), name_of(o)) > (namespace, name)]
    list_meta: Obj = {"resourceVersion": version}
    limit = int(query.get("limit") or 0)
    if 0 < limit < len(objects):
        last = objects[limit - 1]
        key = json.dumps([version, namespace_of(last), name_of(last)])
        list_meta["continue"] = base64.urlsafe_b64encode(key.encode()).decode()
        list_meta["remainingItemCount"] = len(objects) - limit
        objects = objects[:limit]
    return objects, list_meta


def _deleted(kind: Kind, name: str, uid: str) -> Obj:
    details = {"name": name, "kind": kind.plural}
    details.update({"group": kind.group} if kind.group else {}, **({"uid": uid} if uid else {}))
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return {**status, "details": details}


def _scale_of(obj: Obj) -> Obj:
    metadata = meta(obj)
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": at(obj, "spec.replicas", 0)},
        "status": {
            "replicas": at(obj, "status.replicas", 0),
            "selector": selector_text(at(obj, "spec.selector")),
        },
    }
