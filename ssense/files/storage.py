"""The one layer through which results reach local disks, shared file systems and object stores."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeGuard

from ssense.errors import UserError, one_line, printable

if TYPE_CHECKING:
    from upath import UPath

try:
    import fcntl
except ModuleNotFoundError:  # every command that reads or writes a storage imports this module
    print("error: ssense does not run on Windows itself. Install it in WSL.", file=sys.stderr)
    raise SystemExit(2) from None

# SQLite's own files lie beside a database that was not finished.
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}(-journal|-wal|-shm)?")
_LOCK = "lock"
_UNLOCKED_S = 5.0  # between making a scratch folder and locking it; far more than that takes
_ELSEWHERE_S = 86_400.0
"""Age of an abandoned scratch folder where locks of other machines may not be seen."""
ABANDONED_S = 60.0
"""Age of a partial file that counts as abandoned; one being written changes more often."""

OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        # A listing that is kept hides what other machines write.
        "use_listings_cache": False,
        # One request reads an object; more would ask for its size first.
        "max_concurrency": 1,
        "config_kwargs": {"max_pool_connections": 64},
    }
}
"""Options of object stores by protocol; AWS's own variables give address and credentials."""

_WITHOUT_BUCKET = ("file", "memory")
_READ_AT_ONCE = 1000

# Answers of S3 and its like: 412, with or without the condition; 409, another writer is at it.
_TAKEN = ("PreconditionFailed", "412", "ConditionalRequestConflict")
# Errors that say nothing of the request itself.
_PASSING = ("", "SlowDown", "InternalError", "ServiceUnavailable", "500", "502", "503", "504")
_REASON_CHARACTERS = 100
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


def open_storage(location: str, *, must_exist: bool = False) -> UPath:
    """Return the storage folder of a path or URL, made if need be and shown to be writable.

    Raises:
        UserError: The storage can't be written to, must exist and does not, or is an object store
            without conditional writes.
    """
    if not location:
        raise UserError("`storage` is empty. Name a folder or a URL.")
    try:
        root = locate(location)
        if must_exist and not root.exists():
            raise UserError(f"no storage at {root}. Check `storage`, or run a sweep first.")
        probe = root / f".probe.{uuid.uuid4().hex}"
        if is_local(root):  # in an object store it would be a bucket that is made
            root.mkdir(parents=True, exist_ok=True)
            remove_partial_files(root)
        _put(probe, b"")
        try:
            if not is_local(root):
                _check_conditions(root, probe)
        finally:
            remove(probe)
    except UserError:
        raise
    except Exception as error:  # an object store raises whatever its client library does
        reason = getattr(error, "strerror", None) or one_line(error)
        if isinstance(error, FileExistsError):
            reason = "a file is in its place"
        raise UserError(
            f"storage {location} can't be written to ({reason}). Check `storage`."
        ) from error
    return root


def _check_conditions(root: UPath, probe: UPath) -> None:
    """Refuse an object store where a file that is there can be created a second time.

    Otherwise two sweeps would both believe to have the claim, and one of two looks at once would be
    lost.

    Args:
        root: The storage, for the message.
        probe: A file that is there.

    Raises:
        UserError: The store ignores the condition, or refuses it.
    """
    try:
        create(probe, b"a second time")
        does = "ignores conditional writes"
    except FileExistsError:
        return
    except Exception as error:  # an object store raises whatever its client library does
        if _s3_code(error) in _PASSING:
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        does = f"refuses conditional writes ({printable(reason, _REASON_CHARACTERS)})"
    raise UserError(
        f"the object store of {root} {does}. Without them two drivers, or two looks at once, would "
        "overwrite each other. Use one that honours If-None-Match, as AWS S3 and current MinIO do, "
        "or a disk that all machines share."
    )


def locate(location: str) -> UPath:
    """Return the place that a path or URL names; nothing is looked up or made.

    Raises:
        UserError: The URL is of no known kind or names no bucket, or the path can't be one.
    """
    from upath import UPath  # a machine that only trains need not have it

    protocol, scheme, place = location.partition("://")
    if scheme and protocol not in _WITHOUT_BUCKET and not place.partition("/")[0].strip():
        raise UserError(
            f"{printable(location)} names no bucket. Give it as {protocol}://BUCKET/FOLDER."
        )
    try:
        root: UPath = UPath(location, **OPTIONS.get(protocol, {}))
        if root.protocol in ("", "file"):
            root = UPath(Path(location.removeprefix("file://")).expanduser().resolve())
    except (ImportError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{printable(location)} can't be reached ({one_line(error)}). Give a folder or a URL "
            "such as s3://BUCKET/FOLDER."
        ) from error
    return root


def write_whole(path: UPath, content: bytes | memoryview | str) -> None:
    """Write a file so that readers see the old one or the new one, never a part.

    A local file is written beside its place and moved there; object stores put whole objects.

    Raises:
        UserError: The file can't be written: the storage is full, read-only or unreachable.
    """
    write_together(path.parent, {path.name: content})


def write_together(
    folder: UPath,
    contents: Mapping[str, bytes | memoryview | str],
    before_any: Callable[[], object] = lambda: None,
) -> None:
    """Write files that belong together, each whole; on a disk that has no room for all, none.

    So a table of today never stands beside one of last week. Object stores, which are never full,
    put the files one after the other.

    Args:
        folder: Made if need be.
        contents: Contents by the name of the file; the first is put in its place last.
        before_any: Called right before the first of them can be seen; where it was not called,
            none can.

    Raises:
        UserError: A file can't be written: the storage is full, read-only or unreachable.
    """
    path: Path | UPath = folder / next(iter(contents))
    whole = {n: c.encode() if isinstance(c, str) else c for n, c in contents.items()}
    try:
        if is_local(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_partial_files(folder)
            with contextlib.ExitStack() as placed:
                for name, content in whole.items():
                    path = local = folder / name
                    placed.enter_context(partial_file(local)).write_bytes(content)
                before_any()
        else:
            before_any()
            for name, content in reversed(whole.items()):
                path = folder / name
                _put(path, bytes(content))
    except Exception as error:  # an object store raises whatever its client library does
        raise _unwritable(path, error) from error


def write_anew(
    folder: UPath,
    contents: Mapping[str, bytes | memoryview | str],
    before_any: Callable[[], object] = lambda: None,
) -> list[UPath]:
    """Write all files of a folder together, see `write_together`, and remove any others there.

    Returns:
        Paths of the files, in the order of their contents.

    Raises:
        UserError: A file can't be written or removed.
    """
    write_together(folder, contents, before_any)
    for name in names_in(folder):
        if name not in contents:
            remove(folder / name)
    return [folder / name for name in contents]


def create(path: UPath, content: bytes) -> None:
    """Write a new file, whole; of several concurrent writers, exactly one succeeds.

    Args:
        path: Path of the new file.
        content: Bytes unlike any other writer's. A client repeats a request whose answer was lost,
            and then finds its own file there, which it knows by its content.

    Raises:
        FileExistsError: The file exists. (`open_storage` refuses stores that would not say so.)
        OSError: The file can't be written.
    """
    try:
        if is_local(path):
            with partial_file(path, place_new) as partial:
                partial.write_bytes(content)
        else:
            path.fs.pipe_file(path.path, content, mode="create")  # If-None-Match: *
    except Exception as error:  # an object store raises whatever its client library does
        if not isinstance(error, FileExistsError) and _s3_code(error) not in _TAKEN:
            raise
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if read_whole(path) == content:
                return
        raise FileExistsError(errno.EEXIST, "it is there already", str(path)) from error


def place_new(partial: Path, path: Path) -> None:
    """Give a whole local file its name, which must be free, also where there are no hard links.

    Args:
        partial: The file, which stays.
        path: Its name, in the same folder.

    Raises:
        FileExistsError: The name is taken.
        OSError: The file can't be written.
    """
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with path.open("xb") as file:  # such a file system shows the file while it is written
            try:
                file.write(partial.read_bytes())
                file.flush()
            except BaseException:
                path.unlink()
                raise


def _s3_code(error: Exception) -> str:
    """The error code of an object store; empty for any other error."""
    response = getattr(error.__cause__ or error, "response", None) or {}
    code: str = response.get("Error", {}).get("Code", "")
    return code


def write_next(folder: UPath, name: str, number: int, content: str) -> UPath:
    """Write to the first unused number >= `number`; concurrent writers get different numbers.

    Args:
        folder: Folder of the file, made if need be.
        name: Name with a place for the number, "look-{:04d}.json".
        number: The first number to try.
        content: Text of the file, unlike any other writer's, as in `create`.

    Returns:
        The file.

    Raises:
        UserError: The file can't be written.
    """
    try:
        if is_local(folder):
            folder.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                create(path := folder / name.format(number), content.encode())
                return path
            except FileExistsError:
                number += 1
    except Exception as error:  # an object store raises whatever its client library does
        raise _unwritable(folder, error) from error


def remove(path: UPath) -> None:
    """Remove a file, if it is there.

    Raises:
        UserError: The file can't be removed.
    """
    try:
        if is_local(path):
            path.unlink(missing_ok=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.fs.rm_file(path.path)
    except Exception as error:  # an object store raises whatever its client library does
        raise UserError(
            f"{path} can't be removed ({one_line(error)}). Check the storage."
        ) from error


def _put(path: UPath, content: bytes) -> None:
    if is_local(path):
        path.write_bytes(content)
    else:
        path.fs.pipe_file(path.path, content)


def read_whole(path: UPath) -> bytes:
    """Read a file; from an object store in one request.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The file can't be read, or is a pipe, a socket or a device.
    """
    try:
        if not is_local(path):
            content: bytes = path.fs.cat_file(path.path)
            return content
        if not (path.is_file() or path.is_dir()) and path.exists():
            # Reading a pipe would wait for a writer that never comes.
            raise UserError(f"{path} is no regular file. Remove it and run the same command again.")
        return path.read_bytes()
    except (FileNotFoundError, UserError):
        raise
    except Exception as error:  # an object store raises whatever its client library does
        raise _unreadable(path, error) from error


@contextlib.contextmanager
def reading(path: UPath) -> Iterator[IO[bytes]]:
    """Open a file to read parts of it.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The storage can't be read.
    """
    try:
        with path.open("rb") as file:
            yield file
    except (FileNotFoundError, UserError):
        raise
    except Exception as error:  # an object store raises whatever its client library does
        raise _unreadable(path, error) from error


def exists(path: UPath) -> bool:
    """Whether a file or folder is there.

    Raises:
        UserError: The storage can't be read.
    """
    try:
        return path.exists()
    except Exception as error:  # an object store raises whatever its client library does
        raise _unreadable(path, error) from error


def file_size(path: UPath) -> int:
    """Size of a file, bytes.

    Raises:
        UserError: The file is not there, or the storage can't be read.
    """
    try:
        size: int = path.stat().st_size
    except Exception as error:  # an object store raises whatever its client library does
        raise _unreadable(path, error) from error
    return size


def names_in(folder: UPath) -> list[str]:
    """Names of the files and folders directly in a folder, in order; none where it is not there.

    Raises:
        UserError: The storage can't be read.
    """
    try:
        if is_local(folder):
            return sorted(os.listdir(folder))
        places = [place.rstrip("/") for place in folder.fs.ls(folder.path, detail=False)]
    except FileNotFoundError:
        return []
    except Exception as error:  # an object store raises whatever its client library does
        raise _unreadable(folder, error) from error
    # Tools that show folders leave empty objects for them, whose names are the folders' own.
    return sorted(place.rpartition("/")[2] for place in places if place != folder.path.rstrip("/"))


def read_many(paths: Sequence[UPath]) -> Iterator[bytes]:
    """Read files of one storage, many at a time where each takes a request.

    Raises:
        UserError: A file does not exist, or can't be read.
    """
    if not paths or is_local(paths[0]):
        for path in paths:
            try:
                content = read_whole(path)
            except FileNotFoundError as error:
                raise _unreadable(path, error) from error
            yield content
        return
    for first in range(0, len(paths), _READ_AT_ONCE):
        names = [path.path for path in paths[first : first + _READ_AT_ONCE]]
        try:
            contents = paths[0].fs.cat(names)
        except Exception as error:  # an object store raises whatever its client library does
            raise _unreadable(paths[first].parent, error) from error
        yield from map(contents.__getitem__, names)


def subfolders_with(folder: UPath, name: str) -> dict[str, str]:
    """Names of the folders in `folder` that hold a file of this name, in order.

    In an object store this takes a request per thousand files, not one per folder.

    Returns:
        Marks by folder, which change with the file's content; empty where the storage has none.

    Raises:
        UserError: The storage can't be read.
    """
    try:
        if is_local(folder):
            return {path.parent.name: "" for path in sorted(folder.glob(f"*/{name}"))}
        found = folder.fs.find(folder.path, detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # an object store raises whatever its client library does
        raise _unreadable(folder, error) from error
    places = {
        place.split("/")[-2]: file.get("ETag", "")
        for place, file in found.items()
        if place.endswith(f"/{name}")
    }
    return dict(sorted(places.items()))


def cache_folder() -> Path:
    """Folder of this user and machine for what can be made or fetched again.

    Raises:
        UserError: The user has no home to keep it in.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssense"
    except RuntimeError as error:
        raise UserError(
            f"there is no home folder for a cache ({one_line(error)}). Set XDG_CACHE_HOME to a "
            "folder that can be written."
        ) from error


def local_copy(folder: UPath, wanted: Callable[[str], bool] = lambda _: True) -> Path:
    """A folder on a disk of this machine: itself, or a copy in the user's cache, up to date.

    HDF5 and other readers need local files. Of processes that ask at once, one fetches.

    Args:
        folder: Folder on any storage.
        wanted: Whether a file of this relative path is to be fetched.

    Raises:
        UserError: The folder is empty, can't be read, or holds a name that leads out of it; or the
            cache can't be written.
    """
    if is_local(folder):
        return Path(str(folder))
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]  # a URL may be too long
    copy = cache_folder() / "copies" / name
    try:
        copy.mkdir(parents=True, exist_ok=True)
        with copy.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _bring_up_to_date(copy, folder, wanted)
    except OSError as error:
        raise UserError(
            f"{copy}, a copy of {folder}, can't be written ({one_line(error)}). Free space, or "
            "set XDG_CACHE_HOME to a folder that can be written."
        ) from error
    return copy


def _bring_up_to_date(copy: Path, folder: UPath, wanted: Callable[[str], bool]) -> None:
    """Fetch what is wanted and missing or changed, and remove what has gone.

    COPY.json beside the copy keeps the mark of each file that was fetched.
    """
    files = relative_files(folder)
    if not files:
        raise UserError(f"there is nothing at {folder}. Check its name.")
    marks_file = locate(str(copy.with_suffix(".json")))
    marks = read_json(marks_file) if marks_file.exists() else {}
    for name, about in files.items():
        mark = " ".join(str(about.get(key)) for key in ("ETag", "size", "LastModified"))
        if wanted(name) and not (marks.get(name) == mark and _size(copy / name) == about["size"]):
            _fetch(folder / name, copy / name)
            write_json(marks_file, marks := marks | {name: mark})
    for path in list(copy.rglob("*")):
        if path.is_file() and path.relative_to(copy).as_posix() not in files:
            path.unlink()


def relative_files(folder: UPath) -> dict[str, dict[str, Any]]:
    """All files below a folder that is not local, by relative path, with what is known of them.

    Raises:
        UserError: The storage can't be read, or holds a name that leads out of the folder.
    """
    try:
        found = folder.fs.find(folder.path, detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # an object store raises whatever its client library does
        raise _unreadable(folder, error) from error
    start = len(folder.path.rstrip("/")) + 1
    # Tools that show folders leave empty objects for them, whose names end so.
    files = {
        place[start:]: about
        for place, about in found.items()
        if place[start:] and not place.endswith("/")
    }
    for name in files:
        if ".." in name.split("/") or name.startswith("/"):
            raise UserError(f"{folder} holds a file named {name}, outside of it. Remove it there.")
    return files


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _fetch(path: UPath, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(target) as partial:
        try:
            path.fs.get_file(path.path, str(partial))
        except Exception as error:  # an object store raises whatever its client library does
            if isinstance(error, OSError) and error.errno and not _s3_code(error):
                raise  # an error of the disk here
            raise _unreadable(path, error) from error


def upload(folder: Path, to: UPath) -> None:
    """Copy all files of a local folder into a storage.

    Raises:
        UserError: The storage can't be written to.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            write_whole(to / path.relative_to(folder).as_posix(), path.read_bytes())


def _unwritable(path: UPath | Path, error: Exception) -> UserError:
    return UserError(
        f"{path} can't be written ({one_line(error)}). Free space, or check the storage, and "
        "run the same command again: what is done is kept."
    )


def _unreadable(path: UPath, error: Exception) -> UserError:
    return UserError(f"{path} can't be read ({one_line(error)}). Check the storage.")


def write_folder(
    root: Path, what: str, write: Callable[[Path], None], is_there: Callable[[], bool]
) -> None:
    """Write a new local folder: all its files or none. One that is there already stays as it is.

    Args:
        root: Path of the new folder.
        what: Kind of content, for messages.
        write: Function that puts the files into an empty folder.
        is_there: Whether `root` holds them; another process may be faster.

    Raises:
        UserError: The folder holds something else or cannot be written.
    """
    if is_there():
        return
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise UserError(
                f"{root} already exists and is not this {what}. "
                "Choose another folder, or remove it first."
            )
        root.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(root.parent, f".{root.name}.unfinished-") as unfinished:
            write(unfinished)
            unfinished.replace(root)
    except MemoryError as error:
        raise UserError(
            f"this machine has too little memory for the {what} {root}. Ask for a smaller one."
        ) from error
    except OSError as error:
        if is_there():
            return
        raise UserError(
            f"cannot write the {what} {root}: {one_line(error)}. "
            "Free space, or choose a folder that can be written."
        ) from error


@contextlib.contextmanager
def scratch_folder(place: Path | None = None, prefix: str = "ssense-scratch-") -> Iterator[Path]:
    """Yield an empty folder that is removed at the end, or by the next call after a kill.

    A process that works in the folder holds the lock beside it, which the system releases with the
    process. On a shared file system it may do so for this machine alone, so the folder's name has
    the machine. SIGTERM, which would end the process at once, is an interrupt meanwhile.

    Args:
        place: Folder to make it in; None for the temporary one.
        prefix: Beginning of its name. This user's folders with the same prefix that were left
            behind are removed.

    Raises:
        OSError: The folder can't be made.
    """
    place = place or Path(tempfile.gettempdir())
    here = f"{prefix}{platform.node()}"
    for left in place.glob(f"{glob.escape(prefix)}*"):
        least_s = _UNLOCKED_S if left.name.rpartition("-")[0] == here else _ELSEWHERE_S
        if _is_abandoned(left, least_s):
            shutil.rmtree(left, ignore_errors=True)
    with (
        _sigterm_interrupts(),
        tempfile.TemporaryDirectory(
            dir=place, prefix=f"{here}-", ignore_cleanup_errors=True
        ) as whole,
        contextlib.ExitStack() as stack,
    ):
        with contextlib.suppress(OSError):  # a file system without locks
            stack.enter_context(_locked(Path(whole) / _LOCK))
        scratch = Path(whole) / "files"
        scratch.mkdir()
        yield scratch


def _is_abandoned(folder: Path, least_s: float) -> bool:
    """Whether a scratch folder of this user has been there for so long, and nobody has its lock."""
    try:
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            return False
        if time.time() - about.st_mtime < least_s:
            return False
        with _locked(folder / _LOCK):  # released again: NFS keeps the folder of an open file
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Take SIGTERM for an interrupt meanwhile, unless it has a handler already."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, made if need be: on NFS it must be open for writing.

    Raises:
        OSError: Another process holds it, or the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


class partial_file:  # noqa: N801 - a context manager, used like a function
    """Yield a local path beside `path` to write to; on success it is moved onto `path`.

    Args:
        path: Path of the file to replace.
        place: Function that gives the partial file its name, in place of a plain move.
    """

    def __init__(self, path: Path, place: Callable[[Path, Path], None] = os.replace) -> None:
        self._path = Path(path)
        self._place = place
        self._partial = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")

    def __enter__(self) -> Path:
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._place(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)


def remove_partial_files(folder: UPath | Path, abandoned_s: float = ABANDONED_S) -> None:
    """Remove what processes left behind that were killed while they wrote into a local folder.

    Args:
        folder: Folder to look into; not below it.
        abandoned_s: Age in seconds, without a change, after which a file counts as abandoned.
    """
    if not is_local(folder) or not folder.exists():
        return
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):  # another process may have finished or removed it
            unchanged_s = time.time() - path.stat().st_mtime
            if _PARTIAL.fullmatch(path.name) and unchanged_s >= abandoned_s:
                path.unlink()


def is_local(path: UPath | Path) -> TypeGuard[Path]:
    """Whether the path lies on a file system of this machine (a network mount counts)."""
    return isinstance(path, Path)


def write_json(path: UPath, value: Any) -> None:
    """Write a value as indented JSON, whole."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def read_json(path: UPath) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The file is damaged, or can't be read.
    """
    return parse_json(path, read_whole(path))


def parse_json(path: UPath, content: bytes) -> Any:
    """Parse the content of a JSON file.

    Raises:
        UserError: The file is damaged.
    """
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}). Delete it and run again."
        ) from error
