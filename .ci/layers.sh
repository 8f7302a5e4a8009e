#!/bin/bash
# SPDX-License-Identifier: MIT
# .ci/layers.sh [ROOT] - the one-way include rule: each folder may include what is listed for it, and nothing else.
# Quoted includes are looked up beside the file, below core/ and below include/; what is found nowhere must be allowed as a
# foreign header.  Also refuses the inclusion of a .c file.
set -u
cd "${1:-$(dirname "$0")/..}"
exec python3 - <<'PYTHON'
import os
import re
import sys

# Folder: folders it may include besides itself.
CORE = {
    "core/base": [],
    "core/plugin": ["core/base"],
    "core/model": ["core/base"],
    "core/graph": ["core/base", "core/model"],
    "core/run": ["core/base", "core/model", "core/graph", "core/plugin"],
    "core/net": ["core/base"],
    "core/script": ["core/base", "core/plugin", "core/model", "core/graph", "core/run", "core/net"],
    "core/serve": ["core/base", "core/plugin", "core/model", "core/graph", "core/run", "core/net", "core/script"],
    "core/check": ["core/base", "core/plugin", "core/model", "core/graph", "core/run"],
    "core/api": ["core/base", "core/plugin", "core/model", "core/graph", "core/run", "core/net", "core/script", "core/check"],
    "core/app": [],   # the program: the public interface only
}
# Foreign headers: which folders may see them.
FOREIGN = {
    r"lua\w*\.h|lauxlib\.h": ["core/script"],
    r"hwloc.*\.h|link\.h|elf\.h": ["core/plugin"],
    r"dlfcn\.h": ["core/plugin", "core/api"],   # api: dladdr, to find the folder of the library
    r"pcre2\.h|utf8proc\.h": ["core/model"],
    r"jansson\.h": ["core/base", "core/plugin", "core/model", "core/run", "core/script", "core/check", "core/api",
                    "core/app"],
    r"event2/.*|curl/.*": ["core/net"],
    r"openssl/.*": ["core/base", "core/net"],
    r"histedit\.h|editline/.*": ["core/app"],
}
# Single public headers a folder may see: all but the engine's interface, which core/api implements and the program uses.
PUBLIC = ["types.h", "dtype.def", "grids.def", "op.def"]
ABI = ["core/plugin", "core/graph", "core/run", "core/api", "core/script", "core/check"]     # may see plugin.h
ENGINE = ["core/api", "core/app"]                                              # may see perigee.h
# Pure tables, without code, that a folder may see besides what CORE gives it.
TABLES = {"core/run/sampling.def": ["core/app"]}

bad = 0


def fail(path, line, text):
    global bad
    bad += 1
    print(f"{path}:{line}: {text}")


def folder_of(path):
    parts = path.split("/")
    return "/".join(parts[:2])


def check_quoted(path, line, name):
    folder = folder_of(path)
    beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
    if name.startswith("perigee/") and os.path.exists(os.path.join("include", name)):
        public = name.split("/")[1]
        if public == "plugin.h" and folder.startswith("core/") and folder not in ABI:
            fail(path, line, f"{folder} may not include {name}")
        if public == "op_check.h" and folder.startswith("core/"):
            fail(path, line, f"{folder} may not include {name}, which is for plugins")
        if public == "perigee.h" and folder.startswith("core/") and folder not in ENGINE:
            fail(path, line, f"{folder} may not include {name}")
        return
    if os.path.exists(beside):
        found = beside
    elif os.path.exists(os.path.join("core", name)):
        found = os.path.join("core", name)
    else:
        return
    target = folder_of(found)
    if folder == target:
        return
    if found.endswith("_int.h") and not folder.startswith("tests/"):
        fail(path, line, f"{name} is private to {target}")
    is_table = folder in TABLES.get(found, [])
    if folder.startswith("core/") and target not in CORE.get(folder, []) and not is_table:
        fail(path, line, f"{folder} may not include {name} of {target}")
    if folder.startswith("plugins/"):
        fail(path, line, f"a plugin includes include/perigee and its own files, found {name}")


def check_foreign(path, line, name):
    folder = folder_of(path)
    if not folder.startswith("core/"):
        return
    for pattern, folders in FOREIGN.items():
        if re.fullmatch(pattern, name) and folder not in folders:
            fail(path, line, f"{folder} may not include <{name}>")


def check_file(path):
    with open(path, encoding="utf-8") as f:
        for number, text in enumerate(f, 1):
            m = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', text)
            if not m:
                continue
            if m.group(2).endswith(".c"):
                fail(path, number, f"includes the source file {m.group(2)}")
            if m.group(1) == '"':
                check_quoted(path, number, m.group(2))
            else:
                check_foreign(path, number, m.group(2))


n = 0
for root in ("core", "plugins", "include", "tests", "examples"):
    for folder, folders, files in os.walk(root):
        folders[:] = [d for d in folders if d != "build"]
        for name in sorted(files):
            if name.endswith((".c", ".h", ".def", ".cc", ".cpp", ".cu")):
                path = os.path.join(folder, name)
                if root == "core" and folder_of(path) not in CORE and path.count("/") > 1:
                    fail(path, 1, f"folder {folder_of(path)} has no place in the include rule (.ci/layers.sh)")
                check_file(path)
                n += 1
print(f"layers: {n} files, {bad} violations")
sys.exit(1 if bad else 0)
PYTHON
