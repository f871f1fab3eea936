"""Models, and who may use a checkpoint."""

from typing import Literal

from agentrft.server.schemas.base import Answer, PageWithEnds, Seconds


class Model(Answer):
    """`owned_by` is `user` of a fine-tuned one."""

    id: str
    object: Literal["model"]
    created: Seconds
    owned_by: Literal["agentrft", "user"]


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class DeletedModel(Answer):
    id: str
    object: Literal["model"]
    deleted: Literal[True]


class Permission(Answer):
    id: str
    object: Literal["checkpoint.permission"]
    created_at: Seconds
    project_id: str


class PermissionPage(PageWithEnds[Permission]):
    pass


class DeletedPermission(Answer):
    id: str
    object: Literal["checkpoint.permission"]
    deleted: Literal[True]
