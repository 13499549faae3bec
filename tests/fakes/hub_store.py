"""What the fake Hub remembers: users, repositories, commits, files. No HTTP in here."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_LFS_SUFFIXES = (".safetensors", ".parquet", ".bin", ".h5", ".pt", ".npz")


@dataclass(frozen=True)
class User:
    """Whose token it is and what the token may do.

    Args:
        name: Login name; also the namespace of the user's own repositories.
        role: `write`, `read` or `fineGrained`, as the Hub calls them.
        orgs: Organisation -> role of the user in it (`admin`, `write`, `contributor`, `read`).
        scopes: For a fine-grained token: namespace or `owner/repo` -> permissions such as `repo.write`.
    """

    name: str
    role: str = "write"
    orgs: Mapping[str, str] = field(default_factory=dict)
    scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def may_write(self, repo: str) -> bool:
        """Returns whether this token may commit to `repo`."""
        owner = repo.split("/")[0]
        if self.role == "fineGrained":
            return any("repo.write" in self.scopes.get(key, ()) for key in (owner, repo))
        member = owner == self.name or self.orgs.get(owner) in {"admin", "write", "contributor"}
        return self.role == "write" and member

    def may_read(self, repo: str) -> bool:
        """Returns whether this token may see the private `repo`."""
        owner = repo.split("/")[0]
        if self.role == "fineGrained":
            return any(self.scopes.get(key) for key in (owner, repo))
        return owner == self.name or owner in self.orgs


@dataclass(frozen=True)
class Blob:
    """One file's content, stored as a git blob or as a git-LFS object."""

    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        """Returns the hex sha256 of the content."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """Returns what git itself stores: the content, or the LFS pointer to it."""
        if not self.lfs:
            return self.data
        head = "version https://git-lfs.github.com/spec/v1"
        return f"{head}\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def git_oid(self) -> str:
        """Returns git's object id of `pointer`."""
        return hashlib.sha1(
            b"blob %d\0" % len(self.pointer) + self.pointer, usedforsecurity=False
        ).hexdigest()

    @property
    def etag(self) -> str:
        """Returns what the Hub gives as ETag: the sha256 of an LFS file, else the git id."""
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    """One commit: its id, its parent, its title and every file in it."""

    oid: str
    parent: str | None
    title: str
    tree: Mapping[str, Blob]


@dataclass
class Repo:
    """One repository. Branches and tags map a name to a commit id."""

    name: str
    private: bool = False
    gated: bool = False
    allowed: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, rev: str) -> Commit | None:
        """Returns the commit that a branch, a tag, or a full or short commit id names."""
        oid = self.branches.get(rev) or self.tags.get(rev) or rev
        if oid in self.commits:
            return self.commits[oid]
        hits = [c for key, c in self.commits.items() if len(rev) >= 7 and key.startswith(rev)]
        return hits[0] if len(hits) == 1 else None


def is_lfs(path: str, size: int) -> bool:
    """Returns whether the Hub would store this file through git-LFS."""
    return path.endswith(_LFS_SUFFIXES) or size > 10_000_000


class Store:
    """Users, repositories and uploaded objects; every change is taken under one lock."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self.lock = threading.RLock()
        self.users = dict(users)
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}

    def create(self, name: str, *, private: bool = False, gated: bool = False) -> Repo:
        """Makes a repository with the first commit that the Hub makes itself."""
        with self.lock:
            repo = self.repos[name] = Repo(name, private=private, gated=gated)
            self.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, title="initial commit")
            return repo

    def add(
        self,
        name: str,
        files: Mapping[str, bytes | Blob],
        *,
        deleted: Iterable[str] = (),
        branch: str = "main",
        title: str = "x",
    ) -> str:
        """Commits `files` on top of `branch` and returns the commit id; makes the repository if it is missing."""
        with self.lock:
            repo = self.repos.get(name) or self.create(name)
            parent = repo.commits.get(repo.branches.get(branch, ""))
            gone = tuple(deleted)
            tree = {p: b for p, b in (parent.tree if parent else {}).items() if not _below(p, gone)}
            for path, data in files.items():
                tree[path] = data if isinstance(data, Blob) else Blob(data, lfs=is_lfs(path, len(data)))
            content = repr((len(repo.commits), title, sorted((p, b.git_oid) for p, b in tree.items())))
            oid = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()
            repo.commits[oid] = Commit(oid, parent.oid if parent else None, title, tree)
            repo.branches[branch] = oid
            return oid

    def read(self, name: str, path: str, *, rev: str = "main") -> bytes:
        """Returns one file's bytes as a commit holds them."""
        commit = self.repos[name].find(rev)
        if commit is None:
            raise KeyError(rev)
        return commit.tree[path].data

    def head(self, name: str, *, branch: str = "main") -> str:
        """Returns the commit id a branch points to."""
        return self.repos[name].branches[branch]


def _below(path: str, gone: tuple[str, ...]) -> bool:
    return any(path == g or path.startswith(g.rstrip("/") + "/") for g in gone)
